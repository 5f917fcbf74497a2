"""One file or package per library, and nothing else.

Each has an integration that sets and removes its hooks, made with ``capture.hooks``, ``capture.models`` and
``capture.data``; a library that is absent costs nothing.
"""
