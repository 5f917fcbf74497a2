"""Digests of data: the same data gives the same digest, whatever its layout in memory; cost is bounded.

The algorithm, ``mlaudit/data/v1``. A digest is the SHA-256 (lower hex) of a header line and content bytes:

* array: ``array <dtype> <shape>``, then the elements in C order, little-endian. Strides, Fortran order and byte
  order do not matter; dtype and shape do. Values are compared by their bytes: ``-0.0`` is not ``0.0``, and any NaN
  is its own bit pattern. A structured array is its fields, one array after the other.
* array of objects: ``object <shape>``, then each element, tagged with its type (see ``_Stream.element``).
* sparse matrix: ``sparse <dtype> <shape> <stored>``, then the row pointers, column indices (both int64) and values
  of its canonical CSR form (sorted, duplicates summed, no stored zeros): the format does not matter.
* data frame: ``frame <shape>``, the list of its column names as an element, then its values: as one array when
  all columns have the same NumPy number type, else column by column. The index does not count, as estimators do not
  see it. A categorical column is its categories and its codes.
* Arrow table: the data frame that it makes.
* series: its values as an array. A list of numbers or of rows of numbers: the array that NumPy makes of it.
* a tensor (PyTorch, JAX, TensorFlow): the array of the same values; ``bfloat16`` as its 16 bits. A tensor on a
  device is copied from it.
* any other list, tuple or dict of plain values: ``value``, then the value as an element.

Data beyond ``FULL_BYTES`` (or ``FULL_ITEMS`` Python objects) is sampled: ``sample <shape>`` is hashed before the
digest of rows at evenly spaced positions (of elements, where single rows are that large), and the result is written
``sampled:<hex>``, so that it is never taken for a full digest. Data of any other type has no digest: the empty string.
"""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
import struct
import sys
import uuid
from typing import Any, Final

FULL_BYTES: Final = 64 << 20
FULL_ITEMS: Final = 200_000
SAMPLE_BYTES: Final = 16 << 20
SAMPLE_ROWS: Final = 4096
SAMPLED: Final = "sampled:"
_VERSION: Final = "mlaudit/data/v1\n"
_MAX_HEADS: Final = 512
_MAX_DEPTH: Final = 32
_PLAIN_KINDS: Final = "biufcmMSU"
_NUMBERS: Final = frozenset({bool, int, float})
_NAN: Final = struct.pack("<d", float("nan"))

_heads: dict[tuple[Any, tuple[int, ...]], Any] = {}


class _UnsupportedError(Exception):
    """The data contains a value without canonical bytes."""


class _OverBudgetError(Exception):
    """The data is too large to be read as a whole."""


def digest(data: Any) -> str:
    """The digest of ``data`` as the module describes; "" when its type has none.

    Raises nothing on purpose, but runs code of foreign objects: contain it.
    """
    np = sys.modules.get("numpy")
    if np is not None and type(data) is np.ndarray and data.nbytes <= FULL_BYTES:
        # The common case of a prediction, without any detour.
        head = _heads.get((data.dtype, data.shape)) or _head(data.dtype, data.shape)
        if head is not None:
            state = head.copy()  # cheaper than to begin with the same header again
            state.update(data if data.flags.c_contiguous else np.ascontiguousarray(data))
            return str(state.hexdigest())
    try:
        try:
            stream = _Stream()
            stream.data(data)
            return stream.state.hexdigest()
        except _OverBudgetError:
            return _sampled(data)
    except (_UnsupportedError, _OverBudgetError):
        return ""


def _head(dtype: Any, size: tuple[int, ...]) -> Any:
    """The hash of a plain array after its header; None for an array whose memory is not hashed directly."""
    if dtype.kind not in "fiub" or dtype.itemsize > 8 or dtype.str[0] == ">" or not size:
        return None
    head = hashlib.sha256(f"{_VERSION}array {dtype.str} {size}\n".encode())
    if len(_heads) >= _MAX_HEADS:
        _heads.clear()
    _heads[dtype, size] = head
    return head


def shape(data: Any) -> tuple[int | None, int | None]:
    """Rows and columns of ``data``; None where it has none, e.g. the columns of a list of texts."""
    found = getattr(data, "shape", None)
    if type(found) is tuple and len(found) == 2 and type(found[0]) is int and type(found[1]) is int:
        # The common case of a prediction, without any detour.
        return found
    if isinstance(found, tuple) and found and all(isinstance(size, int) for size in found):
        return found[0], found[1] if len(found) > 1 else None
    if isinstance(data, list | tuple):
        first = data[0] if data else None
        return len(data), len(first) if isinstance(first, list | tuple) else None
    return None, None


def _sampled(data: Any) -> str:
    rows, columns = shape(data)
    if not rows:
        return ""
    stream = _Stream()
    stream.state.update(f"sample {rows},{columns}\n".encode())
    stream.data(_sample(data, rows))
    return SAMPLED + stream.state.hexdigest()


def _sample(data: Any, rows: int) -> Any:
    """Rows of ``data`` at evenly spaced positions, the first and the last among them."""
    np = sys.modules.get("numpy")
    is_sparse = hasattr(data, "tocsr")
    size = data.nnz * (data.dtype.itemsize + 8) if is_sparse else getattr(data, "nbytes", 0)
    wanted = SAMPLE_ROWS
    if isinstance(size, int) and size:
        wanted = max(1, min(SAMPLE_ROWS, SAMPLE_BYTES * rows // size))
    if np is not None and isinstance(data, np.ndarray) and size // rows > SAMPLE_BYTES:
        # Few rows, each very long: elements instead of rows.
        return data.flat[:: max(1, size // SAMPLE_BYTES)]
    count = min(rows, wanted)
    places = [index * (rows - 1) // max(count - 1, 1) for index in range(count)]
    if isinstance(data, list | tuple):
        return [data[place] for place in places]
    if hasattr(data, "iloc"):
        return data.iloc[places]
    if hasattr(data, "column_names") and hasattr(data, "take"):
        # As a frame of that size is sampled, which has no size in bytes to ask for.
        count = min(rows, SAMPLE_ROWS)
        return _frame(data.take([index * (rows - 1) // max(count - 1, 1) for index in range(count)]))
    if is_sparse:
        return data.tocsr()[places]
    if np is not None and (isinstance(data, np.ndarray) or hasattr(data, "detach")):
        return data[places]
    raise _UnsupportedError


def _frame(table: Any) -> Any:
    try:
        return table.to_pandas()
    except ImportError:
        raise _UnsupportedError from None


class _Stream:
    """Feeds canonical bytes into one hash and keeps to the budget."""

    def __init__(self) -> None:
        self.state = hashlib.sha256(_VERSION.encode())
        self._bytes = FULL_BYTES
        self._items = FULL_ITEMS

    def data(self, data: Any) -> None:
        np = sys.modules.get("numpy")
        if np is not None and isinstance(data, np.ndarray):
            self._array(np, data)
        elif hasattr(data, "iloc") and hasattr(data, "dtypes"):
            self._pandas(np, data)
        elif hasattr(data, "tocsr") and hasattr(data, "nnz"):
            self._sparse(np, data)
        elif hasattr(data, "column_names") and hasattr(data, "to_pandas"):
            if data.num_rows * data.num_columns * 8 > FULL_BYTES or data.nbytes > 4 * FULL_BYTES:
                raise _OverBudgetError
            self._pandas(np, _frame(data))
        elif isinstance(data, list | tuple) and np is not None and _starts_numeric(np, data):
            self._rows(np, data)
        elif isinstance(data, list | tuple | dict):
            self.state.update(b"value\n")
            self.element(data)
        elif np is not None and hasattr(data, "__array__"):
            self._array(np, self._from_tensor(np, data))
        else:
            raise _UnsupportedError

    def _from_tensor(self, np: Any, data: Any) -> Any:
        """The array of a tensor, wherever it is; one that is too large is not copied for its digest."""
        size = getattr(data, "nbytes", 0)
        if isinstance(size, int) and size > FULL_BYTES:
            raise _OverBudgetError
        if hasattr(data, "detach"):
            data = data.detach().cpu()
            if str(data.dtype) == "torch.bfloat16":
                data = data.view(sys.modules["torch"].int16)
        return np.asarray(data)

    def _rows(self, np: Any, data: Any) -> None:
        first = data[0]
        width = len(first) if hasattr(first, "__len__") else 1
        if len(data) * max(width, 1) * 8 > FULL_BYTES:
            raise _OverBudgetError
        try:
            array = np.asarray(data)
        except ValueError:  # ragged
            array = None
        if array is None or array.dtype.kind not in "biufc":
            self.state.update(b"value\n")
            self.element(data)
        else:
            self._array(np, array)

    def _array(self, np: Any, array: Any) -> None:
        dtype = array.dtype
        if dtype.names:
            self.state.update(f"fields {len(dtype.names)} {array.shape}\n".encode())
            for name in dtype.names:
                self.element(name)
                self._array(np, array[name])
        elif dtype.kind == "O":
            self.state.update(f"object {array.shape}\n".encode())
            if array.size > self._items:
                raise _OverBudgetError
            for item in array.flat:
                self.element(item)
        elif dtype.kind in _PLAIN_KINDS and not (dtype.kind == "f" and dtype.itemsize > 8):
            if dtype.kind == "c" and dtype.itemsize > 16:
                raise _UnsupportedError
            self._spend(array.nbytes)
            little = dtype.newbyteorder("<")
            canonical = np.ascontiguousarray(array, dtype=little).reshape(array.shape)
            self.state.update(f"array {little.str} {array.shape}\n".encode())
            # Views of dates and texts have no buffer of their own that hashlib takes.
            self.state.update(canonical if dtype.kind in "biufc" else canonical.tobytes())
        else:
            # Extended precision has padding bytes of any content; void has no meaning.
            raise _UnsupportedError

    def _pandas(self, np: Any, data: Any) -> None:
        if not hasattr(data, "columns"):
            self._column(np, data)
            return
        rows, columns = data.shape
        if rows * columns * 8 > FULL_BYTES:
            raise _OverBudgetError
        self.state.update(f"frame ({rows}, {columns})\n".encode())
        self.element(data.columns.tolist())
        kinds = set(data.dtypes.tolist())
        if len(kinds) == 1 and isinstance(kind := kinds.pop(), np.dtype) and kind.kind in "biufc":
            self._array(np, data.to_numpy())
        else:
            for _, column in data.items():  # noqa: PERF102 - frames have no values()
                self._column(np, column)

    def _column(self, np: Any, column: Any) -> None:
        values = column
        if hasattr(column.dtype, "categories"):
            self.state.update(b"categories\n")
            self._array(np, np.asarray(column.cat.categories))
            values = column.cat.codes
        elif not isinstance(column.dtype, np.dtype):
            values = column.astype(object)
        self._array(np, values.to_numpy())

    def _sparse(self, np: Any, data: Any) -> None:
        if data.nnz * (data.dtype.itemsize + 8) > FULL_BYTES:
            raise _OverBudgetError
        csr = data.tocsr(copy=True)
        csr.sum_duplicates()
        csr.eliminate_zeros()
        csr.sort_indices()
        self.state.update(f"sparse {csr.shape} {csr.nnz}\n".encode())
        self._array(np, csr.indptr.astype(np.int64))
        self._array(np, csr.indices.astype(np.int64))
        self._array(np, csr.data)

    def _spend(self, size: int) -> None:
        self._bytes -= size
        if self._bytes < 0:
            raise _OverBudgetError

    def element(self, value: Any, depth: int = 0) -> None:
        """One value: a type tag, a length where it needs one, and its bytes.

        ``N`` None, ``T``/``F`` bool, ``i`` integer in decimal, ``f`` float as 8 bytes (one NaN for all), ``s`` text,
        ``b`` bytes, ``t`` date or time in ISO form, ``u`` UUID or decimal number, ``l`` sequence, ``d`` dict sorted
        by its encoded keys, ``a`` array, ``A`` pandas' missing value.
        """
        self._items -= 1
        if self._items < 0:
            raise _OverBudgetError
        kind = type(value)
        if kind is str:
            text = value.encode("utf-8", "surrogatepass")
            self._put(b"s%d:" % len(text), text)
        elif kind is float:
            self._put(b"f", _NAN if value != value else struct.pack("<d", value))  # only NaN
        elif value is None:
            self._put(b"N;")
        elif kind is bool:
            self._put(b"T;" if value else b"F;")
        elif kind is int:
            self._put(b"i%d;" % value)
        elif kind is list or kind is tuple:
            self._nested(depth)
            self._put(b"l%d:" % len(value))
            for item in value:
                self.element(item, depth + 1)
        elif kind is dict:
            self._nested(depth)
            self._put(b"d%d:" % len(value))
            for key in sorted(value, key=lambda key: (type(key).__name__, str(key))):
                self.element(key, depth + 1)
                self.element(value[key], depth + 1)
        else:
            self._rare(value, depth)

    def _rare(self, value: Any, depth: int) -> None:
        if isinstance(value, bytes | bytearray | memoryview):
            self._put(b"b%d:" % len(value), bytes(value))
        elif isinstance(value, dt.date | dt.time):
            self._tagged(b"t", value.isoformat())
        elif isinstance(value, decimal.Decimal | uuid.UUID):
            self._tagged(b"u", str(value))
        elif isinstance(value, str):
            self.element(str(value), depth)
        elif type(value).__name__ == "NAType":
            self._put(b"A;")
        else:
            np = sys.modules.get("numpy")
            if np is not None and isinstance(value, np.generic):
                plain = value.item()
                if isinstance(plain, np.generic):
                    raise _UnsupportedError
                self.element(plain, depth)
            elif np is not None and isinstance(value, np.ndarray):
                self._nested(depth)
                self._put(b"a")
                self._array(np, value)
            elif np is not None and hasattr(value, "__array__"):
                self._nested(depth)
                self._put(b"a")
                self._array(np, self._from_tensor(np, value))
            else:
                raise _UnsupportedError

    def _tagged(self, tag: bytes, text: str) -> None:
        self._put(tag + b"%d:" % len(text), text.encode())

    def _put(self, head: bytes, content: bytes = b"") -> None:
        if content:
            self._spend(len(content))
        self.state.update(head + content)

    @staticmethod
    def _nested(depth: int) -> None:
        if depth >= _MAX_DEPTH:  # circular, or deeper than any data set
            raise _UnsupportedError


def _starts_numeric(np: Any, data: Any) -> bool:
    if not data:
        return False
    first = data[0]
    if isinstance(first, np.ndarray):
        return bool(first.dtype.kind in "biufc")
    leaves = first if isinstance(first, list | tuple) else (first,)
    kinds = set(map(type, leaves))
    return bool(kinds) and (
        kinds <= _NUMBERS or all(issubclass(kind, np.number | np.bool_ | int) for kind in kinds)
    )
