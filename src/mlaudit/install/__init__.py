"""What ``mlaudit install`` puts into Elasticsearch.

``abilities`` asks what the cluster can do, ``plan`` compares, ``apply`` changes; templates and roles are generated
into ``elasticsearch/``.
"""
