"""Fifth stage: a record is stored durably, then sent.

``spool`` does everything on disk, ``send`` everything on the wire; ``ticket`` is their interface to the pipeline.
"""
