"""The one client of Elasticsearch.

``client`` connects with TLS and credentials, turns its errors into ours, and refuses what would be unprotected.
``page`` reads everything that a search finds, page by page, at one point in time.
"""
