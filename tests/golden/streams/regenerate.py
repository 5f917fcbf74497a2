"""Writes the golden streams again: ``python -m tests.golden.streams.regenerate`` from the project's root.

Run it only when the form of a record changes on purpose; the files are what older versions of verify must go on
reading. ``<name>.jsonl`` is an archive of one batch a line, ``spool/<name>`` the same as a spool, ``<name>.hits.json``
documents of Elasticsearch; ``expected.json`` says what verify must find in each.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.sealed import (
    BEGIN,
    NEXT_ID,
    SECOND,
    SIGNER,
    STRANGER,
    STREAM_ID,
    Document,
    altered,
    archive_line,
    copy_of,
    document,
    hit,
    make_stream,
    payload,
    rehash,
    write_spool,
)

from mlaudit.deliver.spool import layout
from mlaudit.seal.keys import FileSigner
from mlaudit.seal.rotation import Rotation, sign_rotation

FOLDER = Path(__file__).parent
OLD = FileSigner(Ed25519PrivateKey.from_private_bytes(bytes(range(2, 34))), "test")
VALID = make_stream()
LINK = {
    "audit.stream.previous.id": STREAM_ID,
    "audit.stream.previous.sequence": 20,
    "audit.stream.previous.hash": VALID[-1].hash,
}
NEXT = make_stream(12, stream_id=NEXT_ID, begin=BEGIN + 60 * SECOND, first=LINK)

Expected = list[tuple[str, str, int, int]]


def _forged(number: int, text: str = "nothing happened") -> Document:
    return document(altered(VALID[number - 1].original, "message", text))


def _with(*changes: tuple[int, Document]) -> list[Document]:
    documents = copy_of(VALID)
    for number, changed in changes:
        documents[number - 1] = changed
    return documents


def _rehashed(number: int) -> list[Document]:
    documents = _with((number, _forged(number)))
    rehash(documents, number)
    return documents


def _original(number: int, original: bytes) -> Document:
    return replace(copy_of(VALID)[number - 1], original=original)


def _attribute(number: int) -> Document:
    changed = copy_of(VALID)[number - 1]
    changed.source["audit.actor.id"] = "somebody-else"
    return changed


def _signature() -> list[Document]:
    note = VALID[19].fields["audit.checkpoint.note"]
    forged = note[:-12] + ("A" if note[-12] != "A" else "B") + note[-11:]
    return _with((20, document(altered(VALID[19].original, "audit.checkpoint.note", forged))))


def _one(code: str, sequence: int, through: int | None = None, stream: str = STREAM_ID) -> Expected:
    return [(code, stream, sequence, sequence if through is None else through)]


def _unlinked() -> Document:
    last = make_stream(18, end="open")[-1]
    return document(altered(last.original, "audit.sequence.previous_hash", "f" * 64))


def _after_open() -> list[Document]:
    link = {
        "audit.stream.previous.id": STREAM_ID,
        "audit.stream.previous.sequence": 15,
        "audit.stream.previous.hash": VALID[14].hash,
    }
    return make_stream(12, stream_id=NEXT_ID, begin=BEGIN + 60 * SECOND, first=link)


def _malformed() -> list[Document]:
    changed = document(altered(VALID[6].original, "audit.kind", ""))
    return _with((7, changed))


STREAMS: dict[str, tuple[Callable[[], list[Document]], Expected]] = {
    "valid": (lambda: VALID, []),
    "valid-restart": (lambda: [*VALID, *NEXT], []),
    "valid-open": (lambda: make_stream(18, end="open"), []),
    "valid-abandoned": (lambda: make_stream(18, end="abandoned"), []),
    "original.changed": (lambda: _with((7, _original(7, _forged(7).original))), _one("original.changed", 7)),
    "original.changed-and-hashed": (lambda: _with((7, _forged(7))), _one("original.changed", 7)),
    "original.changed-no-json": (
        lambda: _with((7, _original(7, b"gone"))),
        _one("original.changed", 7),
    ),
    "hash.mismatch": (
        lambda: _with((7, replace(VALID[6], hash="0" * 64))),
        _one("hash.mismatch", 7),
    ),
    "sequence.mismatch": (lambda: _with((7, replace(VALID[6], sequence=3))), _one("sequence.mismatch", 7)),
    "projection.changed": (lambda: _with((7, _attribute(7))), _one("projection.changed", 7)),
    "document.id": (lambda: _with((7, replace(VALID[6], id="another"))), _one("document.id", 7)),
    "chain.broken": (
        lambda: [*make_stream(18, end="open")[:-1], _unlinked()],
        _one("chain.broken", 18),
    ),
    "chain.gap": (lambda: VALID[:6] + VALID[9:], _one("chain.gap", 7, 9)),
    "chain.duplicate": (lambda: [*VALID, replace(_forged(20), id="forged")], _one("chain.duplicate", 20)),
    "order.swapped": (
        lambda: _with((7, _original(7, VALID[12].original)), (13, _original(13, VALID[6].original))),
        _one("order.swapped", 7, 13),
    ),
    "record.inserted": (lambda: [*VALID, replace(_forged(7), id="forged")], _one("record.inserted", 7)),
    "record.replayed": (lambda: [*VALID, replace(VALID[6], id="copy")], _one("record.replayed", 7)),
    "replay.identical": (lambda: [*VALID, VALID[6]], _one("replay.identical", 7)),
    "checkpoint.signature": (_signature, _one("checkpoint.signature", 20)),
    "checkpoint.unknown_key": (lambda: make_stream(signer=STRANGER), _one("checkpoint.unknown_key", 5)),
    "checkpoint.mismatch": (lambda: _rehashed(7), _one("checkpoint.mismatch", 5, 9)),
    "checkpoint.missing": (lambda: make_stream(18, every=100, end="open"), _one("checkpoint.missing", 1, 18)),
    "stream.start_missing": (lambda: VALID[3:], _one("stream.start_missing", 1, 3)),
    "stream.tail_missing": (lambda: [*VALID[:15], *NEXT], _one("stream.tail_missing", 16, 20)),
    "stream.missing": (lambda: NEXT, _one("stream.missing", 0)),
    "stream.not_ended": (
        lambda: [*make_stream(15, end="open"), *_after_open()],
        _one("stream.not_ended", 15),
    ),
    "original.malformed": (_malformed, _one("original.malformed", 7)),
}


def _retired() -> list[Document]:
    """Signed by a key after the rotation that ended it."""
    return make_stream(signer=OLD)


def _elsewhere() -> list[Document]:
    """One document is in the data stream of another class, one in another namespace."""
    documents = copy_of(VALID)
    for stored in documents:
        stored.index = ".ds-logs-mlaudit.prediction-default-2025.11.25-000001"
    documents[6].index = ".ds-logs-mlaudit.access-default-2025.11.25-000001"
    documents[9].index = ".ds-logs-mlaudit.prediction-other-2025.11.25-000001"
    documents[9].source["data_stream.namespace"] = "other"
    return documents


def _branch(first: int, last: int) -> list[Document]:
    """Forged records that are linked to each other, next to the genuine ones."""
    forged = [replace(_forged(number), id=f"forged-{number}") for number in range(first, last + 1)]
    documents = [VALID[first - 2], *forged]
    rehash(documents, 1)
    return [replace(stored, id=f"forged-{stored.sequence}") for stored in documents[1:]]


def _foreign_note() -> list[Document]:
    """The last checkpoint replaced by a valid one of another stream, and the end recomputed."""
    note = NEXT[4].fields["audit.checkpoint.note"]
    changed = document(altered(VALID[14].original, "audit.checkpoint.note", note))
    documents = _with((15, changed))
    rehash(documents, 15)
    return documents


def _adopted() -> list[Document]:
    """An abandoned stream whose adopter is absent."""
    documents = make_stream(18, end="abandoned")
    return [
        *documents[:-1],
        document(altered(documents[-1].original, "audit.stream.adopted_by", NEXT_ID)),
    ]


MORE: dict[str, tuple[Callable[[], list[Document]], Expected]] = {
    "record.inserted-branch": (
        lambda: [*VALID, *_branch(7, 9)],
        _one("record.inserted", 7, 9),
    ),
    "checkpoint.mismatch-foreign": (
        _foreign_note,
        [*_one("checkpoint.mismatch", 15), *_one("checkpoint.mismatch", 10, 19)],
    ),
    "checkpoint.retired_key": (
        _retired,
        _one("checkpoint.retired_key", 5)
        + _one("checkpoint.retired_key", 10)
        + _one("checkpoint.retired_key", 15)
        + _one("checkpoint.retired_key", 20),
    ),
    "stream.missing-adopter": (_adopted, _one("stream.missing", 0, stream=NEXT_ID)),
}
DOCUMENTS: dict[str, tuple[Callable[[], list[Document]], Expected]] = {
    "document.place": (_elsewhere, _one("document.place", 7) + _one("document.place", 10)),
    "document.id": (lambda: _with((7, replace(VALID[6], id="another"))), _one("document.id", 7)),
    "projection.changed": (lambda: _with((7, _attribute(7))), _one("projection.changed", 7)),
}
# Differences of a spool from an archive: absence is not a finding there, and the order of frames is significant.
SPOOLS: dict[str, Expected] = {
    "valid": [],
    "valid-restart": [],
    "valid-open": [],
    "original.changed": _one("original.changed", 7),
    "original.changed-and-hashed": _one("original.changed", 7),
    "hash.mismatch": _one("hash.mismatch", 7),
    # The frame's and the attribute's.
    "sequence.mismatch": _one("sequence.mismatch", 7) + _one("projection.changed", 7),
    "projection.changed": _one("projection.changed", 7),
    "document.id": _one("document.id", 7),
    "chain.gap": _one("chain.gap", 7, 9),
    "checkpoint.mismatch": _one("checkpoint.mismatch", 5, 9),
    "checkpoint.signature": _one("checkpoint.signature", 20),
    "checkpoint.unknown_key": _one("checkpoint.unknown_key", 5),
    "stream.start_missing": _one("stream.start_missing", 1, 3),
    "stream.tail_missing": _one("stream.tail_missing", 16, 20),
    "stream.not_ended": _one("stream.not_ended", 15),
    "stream.missing": [],
}


def _write_spools() -> dict[str, Expected]:
    """Spools of the same streams, with faults that only a spool can have: damage, a torn end, quarantined records."""
    shutil.rmtree(FOLDER / "spool", ignore_errors=True)
    expected: dict[str, Expected] = {}
    for name, findings in SPOOLS.items():
        by_stream: dict[str, list[Document]] = {}
        for stored in STREAMS[name][0]():
            by_stream.setdefault(str(stored.source["audit.sequence.stream_id"]), []).append(stored)
        for documents in by_stream.values():
            _only_segments(write_spool(FOLDER / "spool" / name, documents))
        expected[f"spool/{name}"] = findings
    damaged = _only_segments(write_spool(FOLDER / "spool" / "source.damaged", VALID))
    path = layout.segments(damaged)[1]
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 50_000 + path.read_bytes()[100:])
    expected["spool/source.damaged"] = [("source.damaged", STREAM_ID, 0, 0), *_one("chain.gap", 9)]
    torn = _only_segments(write_spool(FOLDER / "spool" / "source.torn", make_stream(18, end="open")))
    path = layout.segments(torn)[-1]
    path.write_bytes(path.read_bytes()[:-5])
    expected["spool/source.torn"] = [("source.torn", STREAM_ID, 0, 0)]
    aside = _only_segments(write_spool(FOLDER / "spool" / "source.quarantined", VALID[3:]))
    layout.quarantine_folder(aside).mkdir()
    for stored in VALID[:3]:
        (layout.quarantine_folder(aside) / f"{stored.sequence:020d}.otlp").write_bytes(payload(stored))
    expected["spool/source.quarantined"] = [("source.quarantined", STREAM_ID, 0, 0)]
    return expected


def _only_segments(folder: Path) -> Path:
    layout.lock_file(folder).unlink()
    return folder


def _write_keys() -> None:
    """The verifier keys, and the rotation that retired one of them before its signature here."""
    rotation = Rotation(OLD.public_key, SIGNER.public_key, "2025-11-20T00:00:00Z", "2025-11-21T00:00:00Z")
    (FOLDER / "rotations").mkdir(exist_ok=True)
    note = sign_rotation(rotation, OLD, SIGNER)
    (FOLDER / "rotations" / f"{SIGNER.public_key.id}.note").write_text(note, encoding="utf-8")
    (FOLDER / "test.pub").write_text(SIGNER.public_key.encode() + "\n", encoding="utf-8")
    (FOLDER / "retired.pub").write_text(OLD.public_key.encode() + "\n", encoding="utf-8")


def main() -> None:
    """Writes every file, the verifier key, and the expected findings."""
    expected = {}
    for name, (make, findings) in {**STREAMS, **MORE}.items():
        documents = make()
        lines = (archive_line(documents[start : start + 4]) for start in range(0, len(documents), 4))
        (FOLDER / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        expected[f"{name}.jsonl"] = findings
    for name, (make, findings) in DOCUMENTS.items():
        text = json.dumps([hit(stored) for stored in make()], ensure_ascii=False, indent=0)
        (FOLDER / f"{name}.hits.json").write_text(text + "\n", encoding="utf-8")
        expected[f"{name}.hits.json"] = findings
    expected |= _write_spools()
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")
    _write_keys()


if __name__ == "__main__":
    main()
