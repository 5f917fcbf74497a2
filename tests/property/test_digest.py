"""Digests of generated data."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlaudit.capture.data.digest import digest

NUMBERS = st.one_of(hnp.integer_dtypes(), hnp.floating_dtypes(sizes=(16, 32, 64)), hnp.boolean_dtypes())
ARRAYS = hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6))
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(ARRAYS)
def test_same_array_in_any_layout(array: np.ndarray[Any, Any]) -> None:
    """C order, Fortran order, strides and byte order never change the digest."""
    expected = digest(array)
    assert re.fullmatch("[0-9a-f]{64}", expected)
    assert digest(np.asfortranarray(array)) == expected
    assert digest(array.astype(array.dtype.newbyteorder(">"))) == expected
    assert digest(array.astype(array.dtype.newbyteorder("<"))) == expected
    doubled = np.repeat(array, 2, axis=0)
    assert digest(doubled[::2]) == expected


@settings(max_examples=200, deadline=None)
@given(ARRAYS, st.data())
def test_any_other_value_changes_it(array: np.ndarray[Any, Any], data: st.DataObject) -> None:
    """Whichever element is changed, the digest changes with it."""
    if not array.size:
        return
    place = data.draw(st.integers(0, array.size - 1))
    changed = array.copy()
    raw = changed.reshape(-1).view(np.uint8).reshape(array.size, -1)
    if array.dtype == bool:
        changed.reshape(-1)[place] = not changed.reshape(-1)[place]
    else:
        raw[place, 0] ^= 1
    assert digest(changed) != digest(array)


@settings(max_examples=200, deadline=None)
@given(VALUES, VALUES)
def test_plain_values_agree_only_when_equal(one: Any, other: Any) -> None:
    """Equal digests of plain values mean the same value, of the same types, in the same places."""
    # In a dict: a list of numbers would be the array that NumPy makes of it.
    first, second = digest({"value": one}), digest({"value": other})
    assert first
    assert first == digest({"value": one})
    assert (first == second) == (_typed(one) == _typed(other))


def _typed(value: Any) -> Any:
    if isinstance(value, list):
        return ("list", [_typed(item) for item in value])
    if isinstance(value, dict):
        return ("dict", {key: _typed(item) for key, item in value.items()})
    # repr tells 0.0 from -0.0 and has one NaN, as the digest does.
    return (type(value).__name__, repr(value))
