"""Writes the golden streams again: ``python -m tests.golden.streams.regenerate`` from the project's root.

Run it only when the form of a record changes on purpose; the files are what older versions of verify must go on
reading. Each file is an archive of one batch a line; ``expected.json`` says what verify must find in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

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
    make_stream,
    rehash,
)

FOLDER = Path(__file__).parent
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


def main() -> None:
    """Writes every file, the verifier key, and what is expected."""
    expected = {}
    for name, (make, findings) in STREAMS.items():
        documents = make()
        lines = (archive_line(documents[start : start + 4]) for start in range(0, len(documents), 4))
        (FOLDER / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        expected[name] = findings
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")
    (FOLDER / "test.pub").write_text(SIGNER.public_key.encode() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
