"""Everything on disk: segments of frames, one folder a stream.

``layout`` knows every path, ``files`` every fsync and rename; ``spool`` appends and reads; ``recovery``, ``retained``
and ``quarantine`` are what becomes of old records.
"""
