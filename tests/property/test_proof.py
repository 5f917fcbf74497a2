"""Any valid stream is proven, and any change of one record is attributed to that record."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.sealed import (
    STREAM_ID,
    Document,
    altered,
    copy_of,
    document,
    make_stream,
    named,
    prove,
    records,
    rehash,
)

from mlaudit.verify.proof.stored import Claims, StoredRecord, observe, parse_original

LENGTH = 40
EVERY = 7
VALID = make_stream(LENGTH, every=EVERY)
NUMBERS = st.integers(1, LENGTH)
# The last record has no successor; other streams confirm it.
VOUCHED = st.integers(1, LENGTH - 1)


def sequences(documents: list[Document]) -> list[tuple[str, int, int]]:
    """What the proof finds."""
    return named(prove(records(documents))[1])


@settings(deadline=None)
@given(st.integers(2, 60), st.integers(2, 20), st.sampled_from(["ended", "abandoned", "open"]))
def test_any_valid_stream_is_proven(count: int, every: int, end: str) -> None:
    """A stream of any length, checkpoint interval and end has no finding."""
    summary, findings = prove(records(make_stream(count, every=every, end=end)))

    assert findings == []
    assert summary.state == end
    assert summary.records == count


@settings(deadline=None)
@given(st.permutations(range(LENGTH)))
def test_order_of_arrival_means_nothing(order: list[int]) -> None:
    """Records prove their order themselves, however a store gives them back."""
    assert sequences([VALID[index] for index in order]) == []


@settings(deadline=None)
@given(NUMBERS, st.data())
def test_flipped_byte_in_an_original_is_named(number: int, data: st.DataObject) -> None:
    """Any single changed byte of any original gives one finding, at that record."""
    original = bytearray(VALID[number - 1].original)
    position = data.draw(st.integers(0, len(original) - 1))
    original[position] ^= data.draw(st.integers(1, 255))
    found = [_observed(stored) for stored in VALID]
    found[number - 1] = _observed(replace(VALID[number - 1], original=bytes(original)))
    found.sort(key=lambda record: (record.stream_id, record.sequence))

    expected = "original.changed" if number < LENGTH else "hash.mismatch"
    assert named(prove(found)[1]) == [(expected, number, number)]


@settings(deadline=None)
@given(VOUCHED, st.text(max_size=50))
def test_changed_and_hashed_original_is_named(number: int, message: str) -> None:
    """Recomputing the stored hash and the projection does not hide the change."""
    assume(message != VALID[number - 1].fields["message"])
    documents = copy_of(VALID)
    documents[number - 1] = document(altered(documents[number - 1].original, "message", message))

    assert sequences(documents) == [("original.changed", number, number)]


@settings(deadline=None)
@given(VOUCHED, st.integers(1, 100))
def test_deleted_records_are_named(first: int, count: int) -> None:
    """Any run of deleted records that is followed by another is a gap with these bounds."""
    last = min(first + count - 1, LENGTH - 1)
    documents = copy_of(VALID[: first - 1] + VALID[last:])

    code = "chain.gap" if first > 1 else "stream.start_missing"
    assert sequences(documents) == [(code, first, last)]


@settings(deadline=None)
@given(NUMBERS, NUMBERS)
def test_exchanged_originals_are_named(one: int, other: int) -> None:
    """Two documents whose originals are exchanged give one finding that names both."""
    assume(one < other)
    documents = copy_of(VALID)
    documents[one - 1].original, documents[other - 1].original = (
        documents[other - 1].original,
        documents[one - 1].original,
    )

    assert sequences(documents) == [("order.swapped", one, other)]


@settings(deadline=None)
@given(NUMBERS)
def test_repeated_record_is_named(number: int) -> None:
    """A record stored twice is a replay under another id, and harmless under its own."""
    again = replace(VALID[number - 1], index="another")

    assert sequences([*VALID, again]) == [("replay.identical", number, number)]
    assert sequences([*VALID, replace(again, id="other")]) == [("record.replayed", number, number)]


@settings(deadline=None)
@given(NUMBERS, NUMBERS, st.integers(1, 2))
def test_records_that_a_rollover_repeats_are_one_finding(one: int, other: int, times: int) -> None:
    """Neighbours that are stored more than once are named together, however often."""
    first, last = sorted((one, other))
    again = [replace(document, index="another") for document in VALID[first - 1 : last]]

    assert sequences([*VALID, *again * times]) == [("replay.identical", first, last)]


@settings(deadline=None)
@given(VOUCHED, st.text(max_size=20))
def test_inserted_record_is_named(number: int, message: str) -> None:
    """The next record shows which of a forged and a genuine record is genuine."""
    assume(message != VALID[number - 1].fields["message"])
    forged = document(altered(VALID[number - 1].original, "message", message))
    forged.id = "forged"

    assert sequences([*VALID, forged]) == [("record.inserted", number, number)]


@settings(deadline=None)
@given(VOUCHED)
def test_chain_computed_again_without_the_key_is_named(number: int) -> None:
    """A changed record, with all later ones hashed again, contradicts the next checkpoint."""
    documents = copy_of(VALID)
    documents[number - 1] = document(altered(documents[number - 1].original, "message", "nothing happened"))
    rehash(documents, number)

    found = sequences(documents)

    assert [code for code, _, _ in found] == ["checkpoint.mismatch"]
    _, first, last = found[0]
    assert first <= number <= last
    assert last - first < EVERY


@settings(deadline=None)
@given(NUMBERS, st.sampled_from(sorted(VALID[1].source)), st.one_of(st.text(), st.integers(), st.booleans()))
def test_changed_searchable_field_is_named(number: int, name: str, value: object) -> None:
    """Any searchable field with another value is named, with the field."""
    collectors = ("data_stream.", "mlaudit.", "event.ingested")
    assume(not name.startswith(collectors))
    assume(VALID[number - 1].source.get(name) != value)
    documents = copy_of(VALID)
    documents[number - 1].source[name] = value

    found = prove(records(documents))[1]

    assert named(found) == [("projection.changed", number, number)]
    assert found[0].fields == (name,)


@settings(deadline=None)
@given(st.binary(max_size=200), st.text(max_size=20), st.integers(-5, 50))
def test_garbage_never_breaks_the_proof(original: bytes, digest: str, sequence: int) -> None:
    """Any content in a record's place is named, and the proof continues."""
    garbage = observe(original, parse_original(original), Claims("x", digest, sequence, ((STREAM_ID, 7),)))
    found = [_observed(stored) for stored in VALID]
    found[6] = garbage

    assert {finding.sequence for finding in prove(found)[1]} == {7}


def _observed(stored: Document) -> StoredRecord:
    claims = Claims(stored.id, stored.hash, stored.sequence, ((STREAM_ID, stored.sequence),))
    return observe(stored.original, parse_original(stored.original), claims)
