"""The documentation site: its pages, their links, and how it is built.

``navigation`` lists the pages, ``links`` checks their links without building anything, ``staging`` and ``reference``
write Sphinx's input, ``output`` checks its output. ``make docs`` runs all of it.
"""
