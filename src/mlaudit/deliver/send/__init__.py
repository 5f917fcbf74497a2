"""Everything on the wire: OTLP over HTTP.

``sender`` drains one spool, ``transport`` posts requests, ``answer`` parses responses, and ``tally`` counts for
metrics and status.
"""
