"""The whole path with real components; ``make demo`` runs it."""
