"""Where sealed records are read from.

A spool, an archive or a cluster behind one interface (``source``); ``open_source`` decides which one is meant;
``projection`` compares searchable fields with originals.
"""
