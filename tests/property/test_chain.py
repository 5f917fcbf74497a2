"""The chain as a state machine: the originals prove any sequence of sealed and stored records."""

from __future__ import annotations

from hashlib import sha256

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlaudit.errors import ChainError
from mlaudit.records.encode import encode
from mlaudit.seal.chain import GENESIS, Chain

NAMES = st.sampled_from(["@timestamp", "audit.kind", "audit.sequence", "audit.sequencf", "message", "zzz"])
RECORDS = st.lists(st.dictionaries(NAMES, st.text(max_size=30), max_size=6), min_size=1, max_size=20)


@settings(deadline=None)
@given(RECORDS)
def test_originals_alone_prove_the_chain(all_fields: list[dict[str, str]]) -> None:
    """Each body contains the hash of the previous one, its own place, and every given field, sorted."""
    chain = Chain("s-1")
    previous = GENESIS
    for number, fields in enumerate(all_fields, 1):
        encoded = encode(fields)
        entry = chain.seal(encoded.head, encoded.tail)
        chain.advance(entry)
        body = orjson.loads(entry.body)

        assert body == {
            **fields,
            "audit.sequence.number": number,
            "audit.sequence.previous_hash": previous,
            "audit.sequence.stream_id": "s-1",
        }
        assert list(body) == sorted(body)
        assert entry.hash == sha256(entry.body).hexdigest()
        previous = entry.hash
    assert (chain.sequence, chain.head) == (len(all_fields), previous)


@settings(deadline=None)
@given(st.integers(0, 10), st.integers(0, 10))
def test_chain_takes_only_its_next_entry(before: int, after: int) -> None:
    """An entry that was sealed on an older head is refused, and the chain is unchanged."""
    chain = Chain("s-1")
    encoded = encode({"message": "x"})
    for _ in range(before):
        chain.advance(chain.seal(*encoded))
    stale = chain.seal(*encoded)
    for _ in range(after):
        chain.advance(chain.seal(*encoded))
    head = (chain.sequence, chain.head)
    if after:
        with pytest.raises(ChainError):
            chain.advance(stale)
        assert (chain.sequence, chain.head) == head
    else:
        chain.advance(stale)
        assert chain.sequence == before + 1
