"""What a data digest covers, and what it costs at most."""

from __future__ import annotations

import datetime as dt
import hashlib
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mlaudit.capture.data import digest as module
from mlaudit.capture.data.digest import SAMPLED, digest, shape

TABLE = np.arange(12, dtype=np.float64).reshape(4, 3)


def test_algorithm_is_the_documented_one() -> None:
    """An array's digest is SHA-256 over version, header and little-endian elements in C order."""
    content = b"mlaudit/data/v1\narray <f8 (4, 3)\n" + TABLE.tobytes()
    assert digest(TABLE) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "same",
    [
        np.asfortranarray(TABLE),
        TABLE.astype(">f8"),
        np.repeat(TABLE, 2, axis=0)[::2],
        np.ascontiguousarray(TABLE.T).T,
        TABLE.copy(),
        TABLE.tolist(),
        [tuple(row) for row in TABLE.tolist()],
        list(TABLE),
        np.array(TABLE).view(np.memmap),
    ],
    ids=["fortran", "big-endian", "strided", "transposed", "copy", "list", "tuples", "rows", "subclass"],
)
def test_layout_does_not_matter(same: object) -> None:
    """The same numbers give the same digest however they lie in memory."""
    assert digest(same) == digest(TABLE)


@pytest.mark.parametrize(
    "other",
    [
        TABLE.astype(np.float32),
        TABLE.reshape(3, 4),
        TABLE.T,
        TABLE + np.eye(4, 3) * 1e-12,
        TABLE[:3],
        TABLE[::-1],
        -TABLE,
    ],
    ids=["dtype", "shape", "transposed", "value", "fewer", "order", "sign"],
)
def test_other_data_has_another_digest(other: object) -> None:
    """Dtype, shape, order and every value count."""
    assert digest(other) != digest(TABLE)


def test_scalar_arrays_and_empty_arrays_have_digests() -> None:
    """Arrays without dimensions or without elements are data too, and differ."""
    cases = [np.array(1.0), np.array([1.0]), np.empty((0, 3)), np.empty((0, 4)), np.array([])]
    assert len({digest(case) for case in cases}) == len(cases)


def test_nan_is_data() -> None:
    """An array with NaN has a stable digest of its own."""
    with_nan = np.array([[1.0, np.nan]])
    assert digest(with_nan) == digest(with_nan.copy()) != digest(np.array([[1.0, 0.0]]))


def test_zero_and_negative_zero_differ() -> None:
    """Values are compared by their bytes, so the two zeros are two values."""
    assert digest(np.array([0.0])) != digest(np.array([-0.0]))


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dok", "bsr"])
def test_sparse_format_does_not_matter(form: str) -> None:
    """A sparse matrix has one digest in all formats, and it is not changed by taking it."""
    matrix = sparse.coo_matrix(([1.0, 2.0, 3.0], ([0, 1, 3], [2, 0, 1])), shape=(4, 3)).asformat(form)
    before = matrix.copy()
    reference = sparse.csr_matrix(matrix.toarray())
    assert digest(matrix) == digest(reference) != digest(TABLE)
    assert (matrix != before).nnz == 0


def test_stored_zeros_and_duplicates_of_a_sparse_matrix_do_not_matter() -> None:
    """The digest is of the matrix, not of how it happens to be stored."""
    stored = sparse.coo_matrix(([1.0, 1.0, 0.0], ([0, 0, 2], [1, 1, 2])), shape=(4, 3))
    assert digest(stored) == digest(sparse.csr_matrix(stored.toarray()))


def test_frame_digest_covers_names_and_values_but_not_the_index() -> None:
    """A frame's column names count, its index does not."""
    frame = pd.DataFrame(TABLE, columns=["a", "b", "c"])
    assert digest(frame) == digest(frame.set_index(pd.Index([9, 8, 7, 6])))
    assert digest(frame) != digest(frame.rename(columns={"a": "x"}))
    assert digest(frame) != digest(frame[["b", "a", "c"]])


def test_frame_of_mixed_columns() -> None:
    """Texts, dates, missing values, nullable numbers and categories have digests, and each value counts."""
    frame = pd.DataFrame(
        {
            "text": ["x", None],
            "when": pd.to_datetime(["2026-01-01", None]),
            "count": pd.array([1, None], dtype="Int64"),
            "kind": pd.Categorical(["a", "b"]),
            "flag": [True, False],
        }
    )
    found = digest(frame)
    assert found == digest(frame.copy())
    for column, value in {"text": "y", "count": 2, "flag": False}.items():
        changed = frame.copy()
        changed.loc[0, column] = value
        assert digest(changed) != found, column


def test_series_is_its_values() -> None:
    """A target as a series and as an array is the same target."""
    assert digest(pd.Series([1, 2, 3], name="y")) == digest(np.array([1, 2, 3]))


def test_texts_are_not_made_an_array() -> None:
    """A list of documents has a digest, in which types and boundaries count."""
    assert digest(["ab", "c"]) == digest(["ab", "c"])
    assert len({digest(["ab", "c"]), digest(["a", "bc"]), digest([b"ab", "c"]), digest(["ab"])}) == 4


def test_plain_values_of_every_type() -> None:
    """Rows of mixed values, dicts in any order, ragged rows, dates and decimals have digests."""
    row = {
        "b": 1,
        "a": [None, True, 2.5, b"x", dt.date(2026, 1, 1), Decimal("1.50"), np.int64(3), np.array([1])],
    }
    reordered = {"a": row["a"], "b": 1}
    assert digest([row]) == digest([reordered])
    assert digest([row]) != digest([{**row, "b": True}])
    assert digest([[1, 2], [3]]) != ""
    assert digest([1, "1"]) != digest(["1", 1])


def test_structured_array_is_its_fields() -> None:
    """Padding between the fields of a structured array does not matter."""
    packed = np.array([(1, 2.0)], dtype=[("a", "i1"), ("b", "f8")])
    aligned = packed.astype(np.dtype([("a", "i1"), ("b", "f8")], align=True))
    assert packed.dtype.itemsize != aligned.dtype.itemsize
    assert digest(packed) == digest(aligned)


def _circular() -> list[object]:
    value: list[object] = [["x"]]
    value.append(value)
    return value


@pytest.mark.parametrize(
    "data",
    [object(), [object()], _circular(), np.array([object()]), np.longdouble([1.0]), (x for x in ()), 5, None],
    ids=["object", "objects", "circular", "object array", "padded floats", "generator", "number", "nothing"],
)
def test_what_has_no_canonical_bytes_has_no_digest(data: object) -> None:
    """Anything else gets the empty string rather than a digest that would not be reproducible."""
    assert digest(data) == ""


def test_huge_data_is_sampled_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit the digest is of a sample, is marked, and never equals a full one."""
    full = digest(TABLE)
    monkeypatch.setattr(module, "FULL_BYTES", 50)
    monkeypatch.setattr(module, "SAMPLE_BYTES", 48)
    sampled = digest(TABLE)
    assert sampled.startswith(SAMPLED)
    assert sampled.removeprefix(SAMPLED) != full
    assert sampled == digest(np.asfortranarray(TABLE))
    assert sampled != digest(np.vstack([TABLE, TABLE]))


@pytest.mark.parametrize(
    "huge",
    [
        np.zeros((2, 1000)),
        np.zeros((2, 1000), order="F"),
        pd.DataFrame(np.zeros((1000, 2))),
        pd.DataFrame({"a": ["x"] * 1000, "b": [1.0] * 1000}),
        sparse.random(1000, 20, density=0.5, random_state=1, format="csc"),
        [[1.0, 2.0]] * 1000,
        ["text"] * 1000,
        np.array(["text"] * 1000, dtype=object),
    ],
    ids=["wide", "wide fortran", "frame", "mixed frame", "sparse", "rows", "texts", "objects"],
)
def test_every_kind_of_data_can_be_sampled(huge: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampling works for every kind of data that has a digest."""
    monkeypatch.setattr(module, "FULL_BYTES", 1500)
    monkeypatch.setattr(module, "SAMPLE_BYTES", 800)
    monkeypatch.setattr(module, "SAMPLE_ROWS", 10)
    monkeypatch.setattr(module, "FULL_ITEMS", 300)
    assert digest(huge).startswith(SAMPLED)


def test_sample_sees_the_first_and_the_last_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends of the data are in every sample."""
    monkeypatch.setattr(module, "FULL_BYTES", 1000)
    monkeypatch.setattr(module, "SAMPLE_BYTES", 800)
    data = np.zeros((1000, 2))
    found = digest(data)
    for place in (0, -1):
        changed = data.copy()
        changed[place, 0] = 1.0
        assert digest(changed) != found


def test_shape_of_everything() -> None:
    """Rows and columns are known where the data has them."""
    assert shape(TABLE) == (4, 3)
    assert shape(TABLE.tolist()) == (4, 3)
    assert shape(pd.DataFrame(TABLE)) == (4, 3)
    assert shape(sparse.csr_matrix(TABLE)) == (4, 3)
    assert shape(np.arange(3)) == (3, None)
    assert shape(["a", "b"]) == (2, None)
    assert shape([]) == (0, None)
    assert shape(object()) == (None, None)
    assert shape(np.array(1.0)) == (None, None)


class Tensor:
    """Looks like a tensor that must be taken off its graph and its device first."""

    def __init__(self, values: np.ndarray, ready: int = 0) -> None:
        self.values = values
        self.ready = ready
        self.dtype = values.dtype
        self.nbytes = values.nbytes

    def detach(self) -> Tensor:
        return Tensor(self.values, self.ready + 1)

    def cpu(self) -> Tensor:
        return Tensor(self.values, self.ready + 1)

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        assert self.ready == 2
        return self.values


def test_a_tensor_is_the_array_of_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone or inside of something else; one that is too large is not copied to be digested."""
    values = np.arange(6.0).reshape(2, 3)
    assert digest(Tensor(values)) == digest(values)
    assert digest({"a": Tensor(values)}) == digest({"a": values})
    monkeypatch.setattr(module, "FULL_BYTES", 8)
    assert digest({"a": Tensor(values)}) == ""
