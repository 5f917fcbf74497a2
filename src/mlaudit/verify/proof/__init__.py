"""The proof itself: pure, one stream at a time.

``proof`` checks the chain, ``checkpoint_checks`` the signatures; ``conflict_resolver`` decides between several records
with one sequence. Every finding has a stable code in ``finding_codes``.
"""
