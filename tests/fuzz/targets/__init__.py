"""The fuzz targets: each takes any bytes and raises when they break a promise."""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz.targets import answer, asgi, documents, encode, notes, policy, redaction, spool, verify

Target = Callable[[bytes], None]

TARGETS: dict[str, Target] = {
    "policy": policy.run,
    "frames": spool.run_frames,
    "spool": spool.run_adoption,
    "verify-spool": verify.run_spool,
    "verify-archive": verify.run_archive,
    "verify-documents": documents.run,
    "notes": notes.run,
    "asgi": asgi.run,
    "answer": answer.run,
    "encode": encode.run,
    "redaction": redaction.run,
}
