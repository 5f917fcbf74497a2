"""Programs that only a checkout needs; none of them is installed.

``generate`` runs the ``generators`` of assets and documents (``make generate``, ``make check``), ``site`` builds the
documentation site (``make docs``).
"""
