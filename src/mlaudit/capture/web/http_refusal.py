"""What a client gets when its request may not happen, or may not have happened, unrecorded (RFC 9457)."""

from __future__ import annotations

from typing import Final

PROBLEM: Final = (
    b'{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"The audit record of this request '
    b'could not be stored, and the audit policy does not allow an unrecorded request."}'
)
HEADERS: Final = (
    ("content-type", "application/problem+json"),
    ("content-length", str(len(PROBLEM))),
    ("retry-after", "5"),
)
