"""The documentation site: which pages it has, where their links lead, and how it is built from them.

``navigation`` lists the pages, ``links`` checks their links without building anything, ``staging`` and ``reference``
write what Sphinx reads, ``output`` checks what it wrote. ``make docs`` runs all of it.
"""
