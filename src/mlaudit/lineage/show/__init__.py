"""A lineage for people and programs: text, JSON, SVG.

``view`` selects what is shown, ``words`` formats it, ``geometry`` and ``svg`` draw it; pure.
``json_document`` has the stable schema.
"""
