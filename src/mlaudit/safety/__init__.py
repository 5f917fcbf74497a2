"""Guards that several stages share.

``network`` refuses unprotected connections, ``printable`` escapes text for terminals and logs, ``regular`` opens only
regular files, ``file_lock`` excludes other processes, ``backoff`` delays retries, ``rate_limit`` limits repeated
events, ``strict_yaml`` refuses ambiguous YAML, ``bounded_map`` bounds what is remembered.
"""
