"""Fourth stage: a record gets its place in the chain, and the chain gets signatures.

``chain`` and ``entry`` are pure; ``checkpoint`` is the signed note; ``keys``, ``rotation`` and ``plugged_signer``
provide and replace signing keys.
"""
