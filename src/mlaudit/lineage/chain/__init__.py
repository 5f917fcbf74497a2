"""The chain data set → run → metrics → approval → artifact → deployment → predictions.

``graph`` builds nodes and edges from the records found; pure.
``nodes`` holds their types.
"""
