"""Models: training, predictions, evaluation, artifacts, deployments.

What the libraries' hooks share, so that the same act gives the same record whatever the library. ``known_models``
remembers which artifact a model in memory was loaded from.
"""
