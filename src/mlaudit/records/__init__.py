"""Third stage: one event becomes one record.

``build`` puts the fields together as the policy decides, ``encode`` makes the bytes that are sealed, once,
and ``fit`` cuts what is too large.
"""
