"""The questions that a lineage asks of a trail.

``trail`` is the interface, ``cluster_trail`` answers it from Elasticsearch; ``reference`` chooses the version,
``trace`` follows identifiers and digests.
"""
