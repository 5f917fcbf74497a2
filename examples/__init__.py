"""Programs to try mlaudit with."""
