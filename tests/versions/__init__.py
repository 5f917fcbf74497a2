"""The integrations' own tests, run with the oldest supported version of each library."""
