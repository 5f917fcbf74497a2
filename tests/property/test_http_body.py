"""The facts recorded about a body do not depend on its chunks."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from mlaudit.capture.web.http_body import Body

chunks = st.lists(st.one_of(st.binary(max_size=64), st.just(b"x" * 70_000)), max_size=12)


@given(chunks, st.integers(min_value=0, max_value=100_000))
def test_any_chunking_gives_the_digest_of_the_whole(pieces: list[bytes], limit: int) -> None:
    """Size, digest and kept bytes are those of the whole body; nothing is kept beyond the limit."""
    body = Body(limit)
    for piece in pieces:
        body.add(piece)
    whole = b"".join(pieces)
    assert body.size == len(whole)
    assert body.digest() == hashlib.sha256(whole).hexdigest()
    assert body.raw() == (whole if limit and len(whole) <= limit else None)


@given(st.binary(max_size=300_000), st.integers(min_value=1, max_value=100_000))
def test_two_cuts_of_one_body_agree(whole: bytes, size: int) -> None:
    """A body in one piece and in equal pieces has one digest, also as a memoryview."""
    one, many = Body(0), Body(0)
    one.add(whole)
    for start in range(0, len(whole), size):
        many.add(memoryview(whole)[start : start + size])
    assert one.digest() == many.digest() == hashlib.sha256(whole).hexdigest()
