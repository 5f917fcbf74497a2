"""Fourth stage: bytes get their place in a chain, and signatures.

``chain`` and ``entry`` are pure; ``checkpoint`` is the signed note, ``keys``, ``rotation`` and ``plugged_signer``
make and change who signs.
"""
