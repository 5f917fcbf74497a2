"""The fault matrix: real processes, a real collector and a real Elasticsearch, and what each fault costs."""
