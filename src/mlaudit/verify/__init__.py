"""Whether a trail is complete and unaltered.

``sources`` reads records, ``proof`` checks them without I/O, ``repair`` measures what Elasticsearch lacks and resends
it; ``verification`` runs them, ``report`` shows the result.
"""
