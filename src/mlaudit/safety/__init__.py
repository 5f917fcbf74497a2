"""Guards that several stages share.

``network`` refuses what would leave unprotected, ``printable`` what would forge a terminal or a log, ``regular``
opens nothing but regular files, ``file_lock`` keeps processes apart, ``backoff`` spaces out what fails,
``rate_limit`` what happens again and again,
``strict_yaml`` reads no file in two ways.
"""
