"""Assembles the stages for one process.

``current`` is the composition root with the process's own state; ``pipeline`` decides and emits; ``backend`` opens
spool, keys and sender; the rest keeps a stream signed, linked, adopted and measured.
"""
