"""Signatures of a slow signer: records lie between the note and the record that it signs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import orjson
from tests.sealed import SIGNER, bare_records, make_stream, named, prove, records

from mlaudit.event import AuditEvent
from mlaudit.seal.checkpoint import VerifyingKey
from mlaudit.testing import AuditLog, capture


class SlowSigner:
    """Signs after something else has happened."""

    public_key: VerifyingKey = SIGNER.public_key

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self._meanwhile = meanwhile

    def sign(self, message: bytes) -> bytes:
        """The signature, late."""
        self._meanwhile()
        return SIGNER.sign(message)


def slow_stream() -> list[bytes]:
    """A stream with three late signatures, each ten records behind, and ten records after each."""
    with capture(instrument=False) as log:
        stream = log.pipeline.stream
        assert stream is not None
        for _ in range(3):
            stream.checkpoint(SlowSigner(lambda: emit(log, 10)))
            emit(log, 10)
        return list(log.originals)


def emit(log: AuditLog, count: int) -> None:
    """Some records."""
    for _ in range(count):
        log.pipeline.emit(AuditEvent("audit.ml.prediction"))


def test_late_signature_is_good() -> None:
    """A note that is newer than the last and matches the record it names counts, wherever it is."""
    originals = slow_stream()

    summary, findings = prove(bare_records(originals))

    assert named(findings) == []
    assert summary.checkpoints_good == 3
    assert summary.last_signed == 2 + 2 * 21


def test_late_signature_shows_what_was_computed_again() -> None:
    """Records between a late note and what it signs cannot be changed without the key."""
    originals = slow_stream()

    rewritten = recompute(originals, 20, keep_notes=True)

    codes = {finding.code for finding in prove(bare_records(rewritten))[1]}
    assert "checkpoint.mismatch" in codes


def test_copied_signature_is_no_late_one() -> None:
    """A recomputed chain cannot replace later notes by a copy of an earlier one."""
    originals = slow_stream()

    rewritten = recompute(originals, 30, keep_notes=False)

    codes = {finding.code for finding in prove(bare_records(rewritten))[1]}
    assert codes == {"checkpoint.mismatch"}


def recompute(originals: list[bytes], first: int, *, keep_notes: bool) -> list[bytes]:
    """The chain, altered from sequence ``first`` on; with ``keep_notes`` False every later note is the first one."""
    note = next(body for body in map(orjson.loads, originals) if "audit.checkpoint.note" in body)
    rewritten = originals[: first - 1]
    for original in originals[first - 1 :]:
        fields = orjson.loads(original)
        fields["audit.sequence.previous_hash"] = sha256(rewritten[-1]).hexdigest()
        if "audit.checkpoint.note" in fields and not keep_notes:
            fields |= {name: note[name] for name in note if name.startswith("audit.checkpoint.")}
        rewritten.append(orjson.dumps(fields | {"message": "forged"}, option=orjson.OPT_SORT_KEYS))
    return rewritten


def test_retired_key_signs_nothing_later() -> None:
    """Checkpoints by a key are valid until it is retired, and each later one is a finding."""
    documents = make_stream(20, every=5)
    limit = orjson.loads(documents[11].original)["@timestamp"]
    retired = replace(SIGNER.public_key, not_after=limit)

    _, findings = prove(records(documents), keys={retired.id: retired})

    found = [finding for finding in findings if finding.code == "checkpoint.retired_key"]
    assert [finding.sequence for finding in found] == [15, 20]
    assert found[0].expected == f"not after {limit}"
