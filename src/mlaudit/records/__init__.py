"""Third stage: one event becomes one record.

``build`` assembles the fields as the policy decides, ``encode`` creates the bytes that are sealed, once, and ``fit``
cuts values that are too large.
"""
