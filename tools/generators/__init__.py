"""One module for each group of generated files, and their shared modules.

A generator has ``OWNED`` and ``outputs``, see ``tools.generate``; ``docs/generation.md`` lists them all. A module
without these two names reads a source or draws for a generator.
"""
