"""The policy: which rule applies to an event, and the level, redaction, guarantee and retention that it sets."""
