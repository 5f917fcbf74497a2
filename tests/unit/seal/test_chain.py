from __future__ import annotations

from hashlib import sha256

import orjson
import pytest

from mlaudit.errors import ChainError
from mlaudit.records.encode import encode
from mlaudit.seal.chain import GENESIS, Chain


def test_first_record_follows_on_nothing() -> None:
    """The first record has sequence 1, and 64 zeros for the previous hash."""
    entry = Chain("s-1").seal(*encode({"message": "x"}))

    fields = orjson.loads(entry.body)
    assert (entry.sequence, entry.previous_hash) == (1, GENESIS)
    assert fields["audit.sequence.number"] == 1
    assert fields["audit.sequence.previous_hash"] == "0" * 64


def test_hash_is_over_the_exact_body() -> None:
    """The hash covers only the stored bytes, so anybody can compute it."""
    entry = Chain("s-1").seal(*encode({"message": "ä\u2028"}))

    assert entry.digest == sha256(entry.body).digest()
    assert entry.hash == sha256(entry.body).hexdigest()


def test_sealing_does_not_move_the_chain() -> None:
    """A record that could not be stored leaves the chain unchanged."""
    chain = Chain("s-1")
    chain.seal(*encode({"message": "lost"}))

    assert (chain.sequence, chain.head) == (0, GENESIS)
    assert chain.seal(*encode({"message": "kept"})).sequence == 1


def test_record_without_fields_around_its_place() -> None:
    """Fields on one side only, or none, still make one JSON object."""
    chain = Chain("s-1")

    assert orjson.loads(chain.seal(*encode({})).body).keys() == {
        "audit.sequence.number",
        "audit.sequence.previous_hash",
        "audit.sequence.stream_id",
    }
    assert orjson.loads(chain.seal(*encode({"@timestamp": "t"})).body)["@timestamp"] == "t"
    assert orjson.loads(chain.seal(*encode({"zzz": "t"})).body)["zzz"] == "t"


def test_entry_of_another_head_is_refused() -> None:
    """The error names the chain's head and the entry that was given."""
    chain = Chain("s-1")
    entry = chain.seal(*encode({"message": "x"}))
    chain.advance(entry)

    with pytest.raises(ChainError, match="expected entry 2 on"):
        chain.advance(entry)


def test_chain_is_continued_from_its_head() -> None:
    """A process that adopts a stream needs only its last sequence and hash."""
    first = Chain("s-1")
    first.advance(first.seal(*encode({"message": "x"})))

    entry = Chain("s-1", first.sequence, first.head).seal(*encode({"message": "y"}))

    assert (entry.sequence, entry.previous_hash) == (2, first.head)
