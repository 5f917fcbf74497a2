"""The whole path on real parts; ``make demo`` runs it."""
