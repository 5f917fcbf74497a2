"""A lineage for people and programs: text, JSON, SVG.

``view`` decides what is shown, ``words`` says it, ``geometry`` and ``svg`` draw it; pure.
``json_document`` has the stable schema.
"""
