"""The proof itself: pure, one stream at a time.

``proof`` follows the chain, ``checkpoint_checks`` the signatures, ``conflict_resolver`` several contents of one
place; every finding has a stable code in ``finding_codes``.
"""
