"""Second stage: which rule applies to an event, and the level, redaction, guarantee and retention that it sets.

``load`` and ``validate`` read the file, ``evaluate`` finds the rule; ``redact``, ``scrub`` and ``methods`` replace what
may not be kept; ``change`` and ``compare`` say what is new since the last start.
"""
