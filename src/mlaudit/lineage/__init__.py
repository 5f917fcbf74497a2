"""Where a model comes from and what it was used for, told from the records of its trail.

``trace`` follows the identifiers and digests that records carry, ``graph`` makes of what it found the chain
data set → run → metrics → approval → artifact → deployment → predictions, and ``text``, ``document`` and ``svg`` show
it. All of that is pure but for the questions that ``trace`` asks of a ``Trail``; ``elasticsearch`` answers them.
"""
