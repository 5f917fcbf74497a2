from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import orjson
import pytest
from tests.sealed import (
    BEGIN,
    KEYS,
    NEXT_ID,
    SECOND,
    STRANGER,
    STREAM_ID,
    Document,
    altered,
    bare_records,
    copy_of,
    document,
    make_stream,
    named,
    prove,
    records,
    rehash,
)

from mlaudit.rfc3339 import from_nanoseconds
from mlaudit.seal.checkpoint import Checkpoint
from mlaudit.verify.proof.finding_codes import CODES, Finding
from mlaudit.verify.proof.proof import StreamProof
from mlaudit.verify.proof.summary import Scope

VALID = make_stream()  # 20 records; checkpoints at 5, 10, 15; ended and signed at 20
OPEN = make_stream(18, end="open")


def change_original(documents: list[Document], number: int) -> None:
    """Like an administrator who does not know about the hash."""
    stored = documents[number - 1]
    stored.original = altered(stored.original, "message", "nothing happened")


def change_and_hash(documents: list[Document], number: int) -> None:
    """Like one who knows the hash and the projection, but not the chain."""
    documents[number - 1] = document(altered(documents[number - 1].original, "message", "nothing happened"))


def change_and_rehash_all(documents: list[Document], number: int) -> None:
    """Like one who knows everything but the key."""
    change_and_hash(documents, number)
    rehash(documents, number)


def delete(documents: list[Document], first: int, last: int) -> None:
    """Deletes the records ``first`` to ``last``."""
    del documents[first - 1 : last]


def insert(documents: list[Document], number: int) -> None:
    """Adds a forged record with the place of another."""
    genuine = documents[number - 1]
    forged = document(altered(genuine.original, "audit.record.id", f"{STREAM_ID[:-4]}ffff"))
    documents.insert(number, forged)


def swap_originals(documents: list[Document], one: int, other: int) -> None:
    """Exchanges the originals of two documents and nothing else."""
    a, b = documents[one - 1], documents[other - 1]
    a.original, b.original = b.original, a.original


def swap_places(documents: list[Document], one: int, other: int) -> None:
    """Exchanges the stored places of two documents."""
    a, b = documents[one - 1], documents[other - 1]
    a.sequence, b.sequence = b.sequence, a.sequence
    name = "audit.sequence.number"
    a.source[name], b.source[name] = b.source[name], a.source[name]


def replay(documents: list[Document], number: int) -> None:
    """Stores a record again under another id."""
    documents.append(replace(documents[number - 1], id="another-id"))


def repeat(documents: list[Document], number: int) -> None:
    """Stores a record again in the next backing index, as after a rollover."""
    documents.append(replace(documents[number - 1], index=".ds-logs-mlaudit.prediction-default-000002"))


def set_source(documents: list[Document], number: int, **fields: object) -> None:
    """Changes searchable fields."""
    documents[number - 1].source |= {name.replace("__", "."): value for name, value in fields.items()}


def sign_by_stranger(documents: list[Document]) -> None:
    """The whole stream, signed by another key."""
    documents[:] = make_stream(signer=STRANGER)


def forge_note(documents: list[Document], number: int) -> None:
    """Changes one character of a signature and recomputes the chain."""
    note = documents[number - 1].fields["audit.checkpoint.note"]
    forged = note[:-12] + ("A" if note[-12] != "A" else "B") + note[-11:]
    documents[number - 1] = document(altered(documents[number - 1].original, "audit.checkpoint.note", forged))
    rehash(documents, number)


TAMPERS: dict[str, tuple[Callable[[list[Document]], None], list[tuple[str, int, int]]]] = {
    "original changed": (lambda d: change_original(d, 7), [("original.changed", 7, 7)]),
    "first original changed": (lambda d: change_original(d, 1), [("original.changed", 1, 1)]),
    "last original changed": (lambda d: change_original(d, 20), [("hash.mismatch", 20, 20)]),
    "checkpoint's original changed": (lambda d: change_original(d, 10), [("original.changed", 10, 10)]),
    "original and hash changed": (lambda d: change_and_hash(d, 7), [("original.changed", 7, 7)]),
    "signed record before a checkpoint changed": (
        lambda d: change_and_hash(d, 9),
        [("original.changed", 9, 9)],
    ),
    "record before the end changed": (lambda d: change_and_hash(d, 19), [("original.changed", 19, 19)]),
    "original is no JSON": (
        lambda d: setattr(d[6], "original", d[6].original[:-1]),
        [("original.changed", 7, 7)],
    ),
    "original emptied": (lambda d: setattr(d[6], "original", b""), [("original.changed", 7, 7)]),
    "stored hash changed": (lambda d: setattr(d[6], "hash", "0" * 64), [("hash.mismatch", 7, 7)]),
    "stored hash removed": (lambda d: setattr(d[6], "hash", ""), [("hash.mismatch", 7, 7)]),
    "stored sequence changed": (lambda d: setattr(d[6], "sequence", 3), [("sequence.mismatch", 7, 7)]),
    "stored sequence removed": (lambda d: setattr(d[6], "sequence", 0), [("sequence.mismatch", 7, 7)]),
    "sequence in the original changed": (
        lambda d: setattr(d[6], "original", altered(d[6].original, "audit.sequence.number", 11)),
        [("original.changed", 7, 7)],
    ),
    "sequence in the original changed and hashed": (
        lambda d: d.__setitem__(
            6,
            replace(
                document(altered(d[6].original, "audit.sequence.number", 700)), source=d[6].source, sequence=7
            ),
        ),
        [("original.changed", 7, 7)],
    ),
    "link in the original changed": (
        lambda d: setattr(d[6], "original", altered(d[6].original, "audit.sequence.previous_hash", "f" * 64)),
        [("original.changed", 7, 7)],
    ),
    "link in the original changed and hashed": (
        lambda d: d.__setitem__(
            6, document(altered(d[6].original, "audit.sequence.previous_hash", "f" * 64))
        ),
        [("original.changed", 7, 7)],
    ),
    "stream in the original changed": (
        lambda d: setattr(d[6], "original", altered(d[6].original, "audit.sequence.stream_id", NEXT_ID)),
        [("original.changed", 7, 7)],
    ),
    "searchable field changed": (
        lambda d: set_source(d, 7, event__outcome="failure"),
        [("projection.changed", 7, 7)],
    ),
    "searchable field removed": (lambda d: d[6].source.pop("event.outcome"), [("projection.changed", 7, 7)]),
    "searchable field added": (lambda d: set_source(d, 7, user__name="eve"), [("projection.changed", 7, 7)]),
    "searchable number changed": (
        lambda d: set_source(d, 7, ml__prediction__rows=8.0),
        [("projection.changed", 7, 7)],
    ),
    "searchable place changed": (
        lambda d: set_source(d, 7, audit__sequence__number=3.0),
        [("projection.changed", 7, 7)],
    ),
    "searchable stream changed": (
        lambda d: set_source(d, 7, audit__sequence__stream_id=NEXT_ID),
        [("projection.changed", 7, 7)],
    ),
    "document id changed": (lambda d: setattr(d[6], "id", "another-id"), [("document.id", 7, 7)]),
    "record deleted": (lambda d: delete(d, 7, 7), [("chain.gap", 7, 7)]),
    "checkpoint deleted": (lambda d: delete(d, 10, 10), [("chain.gap", 10, 10)]),
    "records deleted": (lambda d: delete(d, 7, 12), [("chain.gap", 7, 12)]),
    "start deleted": (lambda d: delete(d, 1, 3), [("stream.start_missing", 1, 3)]),
    "record inserted": (lambda d: insert(d, 7), [("record.inserted", 7, 7)]),
    "record inserted at the last place": (lambda d: insert(d, 20), [("chain.duplicate", 20, 20)]),
    "record replayed": (lambda d: replay(d, 7), [("record.replayed", 7, 7)]),
    "record repeated after a rollover": (lambda d: repeat(d, 7), [("replay.identical", 7, 7)]),
    "originals exchanged": (lambda d: swap_originals(d, 7, 13), [("order.swapped", 7, 13)]),
    "neighbours' originals exchanged": (lambda d: swap_originals(d, 7, 8), [("order.swapped", 7, 8)]),
    "stored places exchanged": (lambda d: swap_places(d, 7, 13), [("order.swapped", 7, 13)]),
    "chain computed again": (lambda d: change_and_rehash_all(d, 7), [("checkpoint.mismatch", 5, 9)]),
    "chain computed again from the start": (
        lambda d: change_and_rehash_all(d, 1),
        [("checkpoint.mismatch", 1, 4)],
    ),
    "signed by another key": (sign_by_stranger, [("checkpoint.unknown_key", 5, 5)]),
    "signature forged": (
        lambda d: forge_note(d, 15),
        [("checkpoint.mismatch", 10, 19), ("checkpoint.signature", 15, 15)],
    ),
    "record added behind the end": (
        lambda d: d.append(_behind(d)),
        [("record.inserted", 21, 21)],
    ),
}


def _behind(documents: list[Document]) -> Document:
    more = altered(documents[6].original, "audit.sequence.number", len(documents) + 1)
    return document(altered(more, "audit.sequence.previous_hash", documents[-1].hash))


@pytest.mark.parametrize("name", TAMPERS)
def test_one_tamper_gives_exactly_one_finding_at_its_place(name: str) -> None:
    """A change of one record gives the right finding at the right record, without findings that only follow."""
    tamper, expected = TAMPERS[name]
    documents = copy_of(VALID)
    tamper(documents)

    _, findings = prove(records(documents))

    assert named(findings) == expected


def test_valid_stream_is_proven() -> None:
    """A stream as it was sealed has no finding, and its summary says what was covered."""
    summary, findings = prove(records(VALID))

    assert findings == []
    assert (summary.state, summary.records, summary.first, summary.last) == ("ended", 20, 1, 20)
    assert (summary.last_signed, summary.unsigned, summary.checkpoints_good) == (19, 0, 4)
    assert summary.service == "scoring"


def test_originals_alone_prove_the_chain() -> None:
    """A store that keeps nothing but originals is enough."""
    summary, findings = prove(bare_records(stored.original for stored in VALID))

    assert findings == []
    assert summary.last_signed == 19


@pytest.mark.parametrize(
    ("number", "expected"),
    [(1, "original.changed"), (7, "original.changed"), (19, "original.changed"), (20, None)],
)
def test_changed_original_is_found_without_a_stored_hash(number: int, expected: str | None) -> None:
    """The next record's link confirms a record; only the very last has no next record."""
    originals = [stored.original for stored in VALID]
    originals[number - 1] = altered(originals[number - 1], "message", "nothing happened")

    _, findings = prove(bare_records(originals))

    assert named(findings) == ([] if expected is None else [(expected, number, number)])


def test_open_stream_is_no_finding() -> None:
    """A service that still runs leaves a stream without an end, and the summary counts what is not signed yet."""
    summary, findings = prove(records(OPEN))

    assert findings == []
    assert (summary.state, summary.last_signed, summary.unsigned) == ("open", 14, 3)


def test_open_stream_that_is_long_silent_must_be_signed() -> None:
    """No setting lets a running process leave records unsigned for a day, so one that does is not proven."""
    later = Scope(silent_before=from_nanoseconds(BEGIN + 100 * SECOND))

    _, findings = prove(records(OPEN), scope=later)

    assert named(findings) == [("checkpoint.missing", 15, 18)]


def test_ended_stream_whose_tail_no_signature_covers_is_not_proven() -> None:
    """Anybody can write an end without a signature."""
    documents = make_stream(18, every=5, end="open")
    documents[-1] = document(altered(documents[-1].original, "audit.kind", "audit.stream.ended"))

    _, findings = prove(records(documents))

    assert [found.code for found in findings] == ["checkpoint.signature"]


def test_abandoned_stream_is_closed() -> None:
    """The signature of the process that adopted a stream closes it as its own end would."""
    summary, findings = prove(records(make_stream(end="abandoned")))

    assert findings == []
    assert summary.state == "abandoned"


def test_without_keys_everything_but_signatures_is_checked() -> None:
    """Verification without keys still compares checkpoints, and counts no valid signature."""
    documents = copy_of(VALID)
    change_and_rehash_all(documents, 7)

    summary, findings = prove(records(documents), keys=None)

    assert named(findings) == [("checkpoint.mismatch", 1, 9)]
    assert (summary.checkpoints_good, summary.last_signed) == (0, 0)


def test_window_cuts_a_stream_without_a_finding() -> None:
    """When the scope excludes the start and the end, their absence is not a finding."""
    inside = records(VALID[5:14])

    summary, findings = prove(inside, scope=Scope(cut_before=True, cut_after=True))

    assert findings == []
    assert (summary.first, summary.last, summary.last_signed) == (6, 14, 9)


def test_checkpoint_from_elsewhere_shows_a_deleted_tail() -> None:
    """A checkpoint from outside the stream shows that the records it names are missing."""
    known = [Checkpoint(STREAM_ID, 17, VALID[16].hash, "2025-11-25T03:31:00Z")]

    _, findings = prove(records(VALID[:12]), known=known)

    assert named(findings) == [("stream.tail_missing", 13, 17)]


def test_checkpoint_from_elsewhere_shows_a_chain_computed_again() -> None:
    """Even with every checkpoint of the stream removed from it, one from outside the stream contradicts."""
    documents = make_stream(12, every=100, end="open")
    known = [Checkpoint(STREAM_ID, 11, documents[10].hash, "2025-11-25T03:31:00Z")]
    change_and_rehash_all(documents, 7)

    _, findings = prove(records(documents), known=known)

    assert named(findings) == [("checkpoint.mismatch", 1, 11)]


def test_checkpoint_of_another_stream_is_refused() -> None:
    """A valid note of another stream proves nothing here."""
    other = make_stream(stream_id=NEXT_ID)[9].fields["audit.checkpoint.note"]
    documents = copy_of(VALID)
    documents[9] = document(altered(documents[9].original, "audit.checkpoint.note", other))
    rehash(documents, 10)

    _, findings = prove(records(documents))

    assert ("checkpoint.mismatch", 10, 10) in named(findings)


def test_deleted_end_leaves_the_stream_open() -> None:
    """Within one stream a missing end looks like a running service; other streams and checkpoints show it."""
    summary, findings = prove(records(VALID[:19]))

    assert findings == []
    assert summary.state == "open"


def test_record_without_a_place_is_malformed() -> None:
    """A record with a valid hash but without its place is reported, not skipped."""
    documents = copy_of(VALID)
    fields = documents[6].fields
    del fields["audit.sequence.previous_hash"]
    documents[6].original = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    documents[6].hash = sha256(documents[6].original).hexdigest()

    _, findings = prove(records(documents))

    assert named(findings) == [("original.malformed", 7, 7)]


def test_findings_carry_both_values() -> None:
    """A finding says what was expected, what was found, and where the document lies."""
    documents = copy_of(VALID)
    set_source(documents, 7, event__outcome="failure")

    _, findings = prove(records(documents))

    found = findings[0]
    assert (found.expected, found.found, found.fields) == ("success", "failure", ("event.outcome",))
    assert found.where == f"{documents[6].index}/{documents[6].stored_id}"
    assert found.record_id == documents[6].id
    assert found.to_dict()["severity"] == "finding"


def test_findings_are_bounded() -> None:
    """The findings of a stream that is broken everywhere are counted, not all held in memory."""
    documents = make_stream(12_000, every=1000)
    for stored in documents:
        stored.source["event.outcome"] = "failure"

    found = records(documents)
    proof = StreamProof(STREAM_ID, KEYS)
    for record in found:
        proof.feed(record)
    _, findings = proof.finish()

    assert len(findings) == 10_000
    assert proof.suppressed == 2000


def branch(first: int, last: int, documents: list[Document] = VALID) -> list[Document]:
    """Forged records that follow on each other, from the genuine one before ``first`` on."""
    forged = copy_of(documents[first - 2 : last])
    forged[1] = document(altered(forged[1].original, "message", "nothing happened"))
    for stored in forged[1:]:
        stored.id = f"forged-{stored.sequence}"
    rehash(forged, 1)
    return [replace(stored, id=f"forged-{stored.sequence}") for stored in forged[1:]]


def test_forged_branch_beside_the_chain_is_one_finding() -> None:
    """The next signature shows which of several forged and genuine records are genuine."""
    _, findings = prove(records([*VALID, *branch(7, 9)]))

    assert named(findings) == [("record.inserted", 7, 9)]


def test_forged_branch_that_is_longer_than_the_chain_is_still_forged() -> None:
    """A branch that leaves the chain before its last signature is forged, however far it is continued."""
    longer = make_stream(30, end="open")
    _, findings = prove(records([*OPEN, *branch(9, 30, longer)]))

    assert named(findings) == [("record.inserted", 9, 30)]


def test_branches_behind_the_last_signature_are_not_told_apart() -> None:
    """When both are continued and neither is signed, the finding says that nothing shows which is genuine."""
    _, findings = prove(records([*OPEN, *branch(16, 18, OPEN)]))

    assert {found.code for found in findings} == {"chain.duplicate"}
    assert [found.sequence for found in findings] == [16, 17, 18]


def test_link_of_another_stream_tells_the_last_record() -> None:
    """The stream that continues the genuine record shows which of the two last records is genuine."""
    forged = document(altered(VALID[19].original, "message", "nothing happened"))
    forged.id = "forged"
    proof = StreamProof(STREAM_ID, KEYS, linked={20: VALID[19].hash})
    for record in records([*VALID, forged]):
        proof.feed(record)

    assert named(proof.finish()[1]) == [("record.inserted", 20, 20)]


def test_without_keys_a_forged_record_is_told_by_the_links() -> None:
    """Verification without keys resolves conflicts by the links alone."""
    forged = replace(document(altered(VALID[6].original, "message", "x")), id="forged")

    _, findings = prove(records([*VALID, forged]), keys=None)

    assert named(findings) == [("record.inserted", 7, 7)]


def test_old_signature_repeated_is_refused() -> None:
    """A copy of an earlier valid note proves nothing about the records after it."""
    documents = copy_of(VALID)
    note = documents[9].fields["audit.checkpoint.note"]
    documents[14] = document(altered(documents[14].original, "audit.checkpoint.note", note))
    rehash(documents, 15)

    _, findings = prove(records(documents))

    assert ("checkpoint.mismatch", 15, 15) in named(findings)


def test_open_stream_that_goes_on_without_signatures_is_not_proven() -> None:
    """Further records do not make up for a signature that is a day late."""
    documents = make_stream(18, every=100, end="open")
    scope = Scope(silent_before=from_nanoseconds(BEGIN + 5 * SECOND))

    _, findings = prove(records(documents), scope=scope)

    assert named(findings) == [("checkpoint.missing", 1, 18)]


def test_two_exported_checkpoints_of_one_record_contradict() -> None:
    """Two signed histories contradict each other."""
    known = [
        Checkpoint(STREAM_ID, 17, digest, "2025-11-25T03:31:00Z") for digest in (VALID[16].hash, "0" * 64)
    ]

    _, findings = prove(records(VALID), known=known)

    assert [found.code for found in findings] == ["checkpoint.mismatch"]


def placed(numbers: dict[int, str]) -> list[Document]:
    """The valid stream, with some documents in other indices."""
    documents = copy_of(VALID)
    for stored in documents:
        stored.index = numbers.get(stored.sequence, ".ds-logs-mlaudit.prediction-default-2025.11.25-000001")
        space = stored.index.split("-")[3]
        stored.source["data_stream.namespace"] = space
    return documents


def test_document_in_the_data_stream_of_another_class_is_named() -> None:
    """Where a document lies follows from its record."""
    _, findings = prove(records(placed({7: ".ds-logs-mlaudit.access-default-2025.11.25-000001"})))

    assert named(findings) == [("document.place", 7, 7)]
    assert findings[0].expected == "logs-mlaudit.prediction-default"


def test_documents_apart_from_their_neighbours_are_named() -> None:
    """A namespace that starts and does not continue was not set by the collector."""
    other = ".ds-logs-mlaudit.prediction-other-2025.11.25-000001"

    assert named(prove(records(placed({7: other, 8: other})))[1]) == [("document.place", 7, 8)]


def test_collector_that_changes_its_namespace_is_no_finding() -> None:
    """A namespace may start in the middle of a stream, and redelivery may store some records in both."""
    other = ".ds-logs-mlaudit.prediction-other-2025.11.25-000001"
    documents = placed(dict.fromkeys(range(12, 21), other))
    again = [stored for stored in placed({}) if stored.sequence in (12, 13)]

    assert {found.code for found in prove(records([*documents, *again]))[1]} == {"replay.identical"}


def test_every_code_is_documented() -> None:
    """The page about verification explains each code, and no code that does not exist."""
    page = (Path(__file__).parents[4] / "docs" / "verify.md").read_text(encoding="utf-8")
    explained = {
        line.split("`")[1] for line in page.splitlines() if line.startswith("| `") and "--" not in line
    }

    assert explained == set(CODES)


def test_severity_follows_the_code() -> None:
    """Only what breaks the proof is a finding."""
    assert Finding("replay.identical", "").severity == "information"
    assert Finding("chain.gap", "").severity == "finding"
