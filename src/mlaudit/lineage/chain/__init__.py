"""The chain data set → run → metrics → approval → artifact → deployment → predictions.

``graph`` makes nodes and edges of what was found; pure.
``nodes`` holds their types.
"""
