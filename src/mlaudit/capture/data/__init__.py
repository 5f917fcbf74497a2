"""Data: what was read, changed or exported.

``access`` makes the records; ``places`` names files and tables, ``sql_text`` reads statements, ``digest`` names
contents.
"""
