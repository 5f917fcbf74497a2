"""One file or package a library, and nothing else.

Each has an integration that sets and removes its hooks, made with ``capture.hooks`` and with what
``capture.models`` and ``capture.data`` know; a library that is absent costs nothing.
"""
