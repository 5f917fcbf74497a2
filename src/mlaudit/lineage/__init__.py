"""Where a model comes from and what it was used for, according to the records of its trail.

``ask`` follows the identifiers and digests that records carry, ``chain`` builds the graph data set → run → metrics →
approval → artifact → deployment → predictions, and ``show`` prints it. Only ``ask.cluster_trail`` does I/O.
"""
