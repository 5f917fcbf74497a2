"""Whether auditing itself works.

``status`` reads the spool of this host; ``doctor`` sends a probe record along the whole path and names the first
broken link.
"""
