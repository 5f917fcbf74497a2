"""Whether a trail is complete and unaltered.

``sources`` read records, ``proof`` judges them without I/O, ``repair`` measures what Elasticsearch lacks and sends it
again; ``verification`` drives them, ``report`` shows the result.
"""
