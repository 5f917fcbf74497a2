"""What is missing in the store, and sending it again.

``coverage`` compares what is signed with what is stored, ``originals`` finds what this host still has, and ``resend``
sends it.
"""
