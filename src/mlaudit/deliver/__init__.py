"""Fifth stage: a record becomes durable, then arrives.

``spool`` is everything on disk, ``send`` everything on the wire; ``ticket`` is the promise that connects them with
the pipeline.
"""
