"""Everything on disk: segments of frames, with one folder for each stream.

``layout`` defines every path, ``files`` does every fsync and rename; ``spool`` appends and reads; ``recovery``,
``retained`` and ``quarantine`` handle old records.
"""
