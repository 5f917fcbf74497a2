"""What only a checkout needs; none of it is installed.

``generate`` runs the ``generators`` of assets and documents (``make generate``, ``make check``), ``site`` builds the
documentation site (``make docs``).
"""
