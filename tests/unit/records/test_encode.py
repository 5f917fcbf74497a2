from __future__ import annotations

import enum
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlaudit.errors import EventError
from mlaudit.records.encode import MAX_EXACT_INTEGER, Common, encode, encoded_texts

PLACE = b'"audit.sequence.number":1'
exact = st.integers(min_value=-MAX_EXACT_INTEGER, max_value=MAX_EXACT_INTEGER)
scalars = st.text() | st.booleans() | exact | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
names = st.from_regex(r"[a-z@][a-z_.]{0,20}", fullmatch=True).filter(
    lambda n: not n.startswith("audit.sequence")
)


@given(st.dictionaries(names, values, max_size=12))
def test_round_trip_keeps_every_value_and_sorts_the_keys(fields: dict[str, Any]) -> None:
    """Decoding returns the encoded fields, with sorted keys and the place between its neighbours."""
    encoded = encode(fields)
    pairs = json.loads(encoded.head + PLACE + encoded.tail, object_pairs_hook=list)
    keys = [key for key, _ in pairs]
    assert keys == sorted([*fields, "audit.sequence.number"])
    decoded = json.loads(encoded.head + PLACE + encoded.tail)
    del decoded["audit.sequence.number"]
    assert decoded == fields


@given(st.dictionaries(names, values, max_size=8))
def test_encoding_does_not_depend_on_the_order_of_fields(fields: dict[str, Any]) -> None:
    """The same fields in another order are the same bytes."""
    assert encode(fields) == encode(dict(reversed(fields.items())))


@given(st.dictionaries(names, values, max_size=10), st.dictionaries(names, values, max_size=10))
def test_common_fields_make_no_difference_to_the_bytes(common: dict[str, Any], own: dict[str, Any]) -> None:
    """A record of common and own fields has the same bytes as one of all fields; own fields override."""
    encoder = Common(common)
    whole = encode({**common, **own})
    assert encoder.encode(own) == whole
    assert encoder.encode(own) == whole  # with the cached layout
    assert encoder.encode({}) == encode(common)


def test_endless_shapes_do_not_fill_the_memory() -> None:
    """Names that are new in every record create a bounded number of layouts."""
    encoder = Common({"b": 1})
    for number in range(2000):
        encoder.encode({f"labels.{number}": 1})
    assert len(encoder._layouts) <= 256
    encoder.encode({f"labels.{'x' * 100}{n}": n for n in range(1000)})
    assert max(sum(map(len, shape)) for shape in encoder._layouts) < 20_000


def circular() -> list[Any]:
    """A list that holds itself."""
    inner: list[Any] = []
    inner.append(inner)
    return inner


def nested(depth: int) -> Any:
    """Lists in lists."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, "NoneType"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (b"bytes", "bytes"),
        ({1: "x"}, "int"),
        ([None], "NoneType"),
        ({"a": [math.nan]}, "nan"),
        (circular(), "circular"),
        (nested(1000), "levels"),
        (object(), "object"),
        (1j, "complex"),
        ({"a"}, "set"),
        ("\ud800", "Unicode"),
    ],
)
def test_what_json_cannot_carry_is_refused_by_name(value: Any, found: str) -> None:
    """A value that JSON would change is refused, with what was found."""
    with pytest.raises(EventError, match=found):
        encode({"ml.x": value})


@pytest.mark.parametrize("number", [MAX_EXACT_INTEGER + 1, -(10**30), 2**64])
def test_integers_that_doubles_would_bend_become_text(number: int) -> None:
    """An integer beyond 2^53 is carried as its digits."""
    encoded = encode({"n": number})
    assert json.loads(encoded.head + PLACE + encoded.tail)["n"] == str(number)


def test_subclasses_of_text_and_numbers_are_what_they_stand_for() -> None:
    """Enum members and other subclasses are encoded by value."""

    class Level(enum.StrEnum):
        FULL = "full"

    class Count(enum.IntEnum):
        ONE = 1

    encoded = encode({"a": Level.FULL, "b": Count.ONE, "c": (1, 2)})
    assert json.loads(encoded.head + PLACE + encoded.tail) == {
        "a": "full",
        "audit.sequence.number": 1,
        "b": 1,
        "c": [1, 2],
    }


def test_a_value_cannot_pretend_to_be_the_place() -> None:
    """Place fields inside a value, as key or text, do not move the place."""
    fields = {"a": {"audit.sequence.number": 0}, "z": ',"audit.sequence.number":0,'}
    encoded = encode(fields)
    assert encoded.head == b'{"a":{"audit.sequence.number":0},'
    decoded = json.loads(encoded.head + PLACE + encoded.tail)
    assert decoded == {**fields, "audit.sequence.number": 1}


def test_encoded_texts_are_a_list_like_any_other() -> None:
    """A list encoded in advance gives the same bytes as the list itself."""
    assert encode({"event.type": encoded_texts(("start", "é"))}) == encode({"event.type": ["start", "é"]})


def test_record_too_large_for_the_receiver_is_refused() -> None:
    """A record that is too large for a request is refused when it is built, not when it is sent."""
    with pytest.raises(EventError, match="at most 1048576 bytes"):
        encode({"message": "x" * (1 << 20)})
