"""The integrations' own tests, run with the oldest version of each library that is supported."""
