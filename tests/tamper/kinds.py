"""Every kind of tamper: each takes a scene and returns a tamper, or None where it does not apply to the store."""

from __future__ import annotations

from collections.abc import Callable

from tests.tamper import kinds_chain, kinds_documents, kinds_loss, kinds_rechain, kinds_record
from tests.tamper.scene import Scene, Tamper

Kind = Callable[[Scene], Tamper | None]

EVERYWHERE: dict[str, Kind] = {
    **kinds_record.KINDS,
    **kinds_loss.KINDS,
    **kinds_chain.KINDS,
    **kinds_rechain.KINDS,
}
ONLY: dict[str, dict[str, Kind]] = {
    "elasticsearch": {**kinds_documents.KINDS, **kinds_loss.COMPLETE, **kinds_chain.DOCUMENTS},
    "archive": kinds_loss.ARCHIVE,
    "spool": {**kinds_record.SPOOL, **kinds_loss.SPOOL},
}
LIMITS: dict[str, Kind] = kinds_rechain.LIMITS


def kinds_of(store: str) -> dict[str, Kind]:
    """Every kind that applies to a store."""
    return {**EVERYWHERE, **ONLY[store]}
