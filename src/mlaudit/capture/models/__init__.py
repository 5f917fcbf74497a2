"""Models: training, predictions, evaluation, artifacts, deployments.

What the libraries' hooks share, so that the same act gives the same record whatever the library; ``known_models``
tells which artifact a model in memory came from.
"""
