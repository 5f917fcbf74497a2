"""One file or package a library, and nothing else.

Each has an integration with ``instrument`` and ``uninstrument``, made of the hooks of ``capture.hooks`` and of what
``capture.models`` and ``capture.data`` know; a library that is absent costs nothing.
"""
