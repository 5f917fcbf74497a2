"""Everything on the wire: OTLP over HTTP.

``sender`` drains one spool, ``transport`` posts, ``answer`` reads what the receiver says, and ``tally`` counts it all
for metrics and status.
"""
