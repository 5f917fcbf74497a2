"""Finds what is missing in the store, and resends it.

``coverage`` compares what is signed with what is stored, ``originals`` reads what this host still has, and ``resend``
sends it.
"""
