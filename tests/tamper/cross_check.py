"""The independent verifier next to verify: whether both find a fault in the same cases."""

from __future__ import annotations

from collections.abc import Mapping

from tests.tamper import independent
from tests.tamper.file_stores import Archive
from tests.tamper.scene import Tamper
from tests.tamper.stores import Documents, Store

from mlaudit.seal.checkpoint import Signer, VerifyingKey, sign_note


class CrossCheck:
    """Checks every n-th tamper of the stores that it can read: documents and archives."""

    def __init__(self, keys: Mapping[str, VerifyingKey], signer: Signer, every: int = 1) -> None:
        self._signer = signer
        self._every = every
        self._count = 0
        public = independent.Ed25519PublicKey.from_public_bytes
        self._keys = {key.name.encode() + bytes.fromhex(key.id): public(key.raw) for key in keys.values()}

    def __call__(self, store: Store, tamper: Tamper) -> bool | None:
        """Whether both agree; None for a tamper that is not checked."""
        self._count += 1
        if self._count % self._every or not store.complete:
            return None
        finding = any(not want.code.startswith(("replay.", "source.torn")) for want in tamper.expected)
        return bool(self.faults(store, tamper)) == finding

    def faults(self, store: Store, tamper: Tamper | None) -> list[str]:
        """The verifier's faults in a store as it is now."""
        notes = [sign_note(point, self._signer) for point in (tamper.checkpoints if tamper else ())]
        if isinstance(store, Documents):
            more = [want.stream for want in (tamper.expected if tamper else ()) if want.stream]
            records = list(independent.documents(entry.raw for entry in store.read(*more)))
        else:
            assert isinstance(store, Archive)
            records = list(independent.lines(store.path))
        return independent.faults(records, self._keys, notes)
