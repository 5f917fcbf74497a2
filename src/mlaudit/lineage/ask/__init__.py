"""The queries behind a lineage.

``trail`` is the interface, ``cluster_trail`` implements it on Elasticsearch; ``reference`` resolves the version,
``trace`` follows identifiers and digests.
"""
