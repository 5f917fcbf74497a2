"""pyarrow (14 and later): Parquet, data sets, CSV, JSON, Feather, ORC and IPC files that it reads and writes.

Functions and Python classes are hooked. What pyarrow makes in C++ cannot be: a ``Dataset`` is recorded when it is
opened, without a number of rows; so are IPC readers and writers, and readers of CSV and JSON that stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.data.access import (
    accessing,
    described,
    file_access,
    record_access,
    refuse_unless_recordable,
)
from mlaudit.capture.data.chunks import Counted
from mlaudit.capture.data.places import Place, place_of
from mlaudit.capture.hooks import Audit, Call, Hooks
from mlaudit.capture.weak_memory import ByIdentity
from mlaudit.catalog.names import DATA_MODIFIED, DATA_READ

if TYPE_CHECKING:
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.pyarrow"
# Readers of whole files: module, function, format.
_READERS: Final = (
    ("parquet", "read_table", "parquet"),
    ("parquet", "read_pandas", "parquet"),
    ("feather", "read_table", "feather"),
    ("feather", "read_feather", "feather"),
    ("orc", "read_table", "orc"),
    ("csv", "read_csv", "csv"),
    ("json", "read_json", "json"),
)
# What only opens a file or a data set, to be read by C++.
_OPENERS: Final = (
    ("dataset", "dataset", "dataset"),
    ("csv", "open_csv", "csv"),
    ("json", "open_json", "json"),
    ("ipc", "open_file", "arrow"),
    ("ipc", "open_stream", "arrow"),
)
# Writers of a table: module, function, position and name of the data and of the place, format.
_WRITERS: Final = (
    ("parquet", "write_table", (0, "table"), (1, "where"), "parquet"),
    ("parquet", "write_to_dataset", (0, "table"), (1, "root_path"), "parquet"),
    ("dataset", "write_dataset", (0, "data"), (1, "base_dir"), "dataset"),
    ("feather", "write_feather", (0, "df"), (1, "dest"), "feather"),
    ("orc", "write_table", (0, "table"), (1, "where"), "orc"),
    ("csv", "write_csv", (0, "data"), (1, "output_file"), "csv"),
)
_STARTERS: Final = (("ipc", "new_file", "arrow"), ("ipc", "new_stream", "arrow"))
_hooks: Final = Hooks(COMPONENT)
# Where open ParquetFiles and ORCFiles read from, and what open ParquetWriters have written.
_sources: Final[ByIdentity[Place]] = ByIdentity()
_writing: Final[ByIdentity[Counted]] = ByIdentity()


class PyarrowIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "pyarrow"
    module: ClassVar[str] = "pyarrow"

    def instrument(self) -> None:
        """Hooks the modules of the formats as they are imported."""
        if _hooks.are_set:
            return
        for part in dict.fromkeys(entry[0] for entry in (*_READERS, *_OPENERS, *_WRITERS, *_STARTERS)):
            _hooks.when_imported(f"pyarrow.{part}", _instrument_module)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        _hooks.undo()


def _instrument_module(module: Any) -> None:
    part = module.__name__.rpartition(".")[2]
    for name, function, form in _READERS:
        if name == part:
            _around(module, function, _reading(form), DATA_READ)
    for name, function, form in _OPENERS:
        if name == part:
            _around(module, function, _opening(form, changes=False), DATA_READ)
    for name, function, data, place, form in _WRITERS:
        if name == part:
            _around(module, function, _writing_table(data, place, form), DATA_MODIFIED)
    for name, function, form in _STARTERS:
        if name == part:
            _around(module, function, _opening(form, changes=True), DATA_MODIFIED)
    if part == "parquet":
        _hooks.around(module.ParquetFile, "__init__", _opened)
        for method in ("read", "read_row_group", "read_row_groups"):
            _around(module.ParquetFile, method, _reading_part(f"ParquetFile.{method}", "parquet"), DATA_READ)
        _around(module.ParquetFile, "iter_batches", _iterating, DATA_READ)
        _around(module.ParquetWriter, "__init__", _writer_opened, DATA_MODIFIED)
        # Every write into it calls this.
        _hooks.around(module.ParquetWriter, "write_table", _written, kind=DATA_MODIFIED)
        _hooks.around(module.ParquetWriter, "close", _writer_closed, kind=DATA_MODIFIED)
    if part == "orc":
        _hooks.around(module.ORCFile, "__init__", _opened)
        _around(module.ORCFile, "read", _reading_part("ORCFile.read", "orc"), DATA_READ)


def _around(owner: Any, name: str, audit: Any, kind: str) -> None:
    _hooks.around(
        owner, name, audit, kind=kind, outermost=True, level=accessing, refuse_after=kind == DATA_READ
    )


def _source(call: Call, position: int = 0, *names: str) -> Any:
    """The source or target of a call, as a URI where it is a path within another file system."""
    names = names or ("source", "input_file", "where", "sink", "path")
    given = next((call.kwargs[name] for name in names if name in call.kwargs), None)
    source = call.args[position] if len(call.args) > position else given
    filesystem = call.kwargs.get("filesystem")
    # A file system of pyarrow says its type, one of fsspec its protocol.
    kind = getattr(filesystem, "type_name", None) or getattr(filesystem, "protocol", None)
    kind = kind[0] if isinstance(kind, list | tuple) and kind else kind
    if (
        isinstance(source, str)
        and isinstance(kind, str)
        and kind not in ("local", "file")
        and "://" not in source
    ):
        return f"{kind.rpartition('+')[2]}://{source}"
    return source


def _reading(form: str) -> Any:
    def audit(pipeline: Pipeline, call: Call) -> Audit:
        return _read(pipeline, call.name, _source(call), form)

    return audit


def _reading_part(operation: str, form: str) -> Any:
    def audit(pipeline: Pipeline, call: Call) -> Audit:
        return _read(pipeline, operation, _sources.get(call.instance), form)

    return audit


def _read(pipeline: Pipeline, operation: str, source: Any, form: str) -> Audit:
    found = file_access(pipeline, operation, source, form)
    if found is None:
        return
    access, place = found
    access.fields["ml.dataset.bytes"] = place.size
    outcome = yield
    if outcome.error is None:
        access.fields |= described(outcome.result)
    record_access(pipeline, access, outcome.error)


def _opening(form: str, *, changes: bool) -> Any:
    def audit(pipeline: Pipeline, call: Call) -> Audit:
        source = _source(call)
        if form in ("arrow", "dataset") and not place_of(source).uri:
            # Within memory: how programs and libraries talk to each other.
            return
        found = file_access(pipeline, call.name, source, form, changes=changes)
        if found is None:
            return
        access, place = found
        if changes:
            refuse_unless_recordable(pipeline, access)
        else:
            access.fields["ml.dataset.bytes"] = place.size
        outcome = yield
        record_access(pipeline, access, outcome.error)

    return audit


def _writing_table(data: tuple[int, str], place: tuple[int, str], form: str) -> Any:
    def audit(pipeline: Pipeline, call: Call) -> Audit:
        found = file_access(pipeline, call.name, _source(call, *place), form, changes=True)
        if found is None:
            return
        access, where = found
        table = call.argument(*data)
        # A data set or an iterator of batches is read by writing it.
        if hasattr(table, "shape"):
            access.fields |= described(table)
        refuse_unless_recordable(pipeline, access)
        outcome = yield
        access.fields["ml.dataset.bytes"] = where.size if outcome.error is None else None
        record_access(pipeline, access, outcome.error)

    return audit


def _opened(pipeline: Pipeline, call: Call) -> Audit:
    outcome = yield
    if outcome.error is None:
        _sources.remember(call.instance, place_of(_source(call)))


def _iterating(pipeline: Pipeline, call: Call) -> Audit:
    found = file_access(pipeline, "ParquetFile.iter_batches", _sources.get(call.instance), "parquet")
    if found is None:
        return
    access, place = found
    access.fields["ml.dataset.bytes"] = place.size
    outcome = yield
    if outcome.error is not None:
        record_access(pipeline, access, outcome.error)
        return
    outcome.result = Counted(pipeline, COMPONENT, [access]).through(outcome.result)


def _writer_opened(pipeline: Pipeline, call: Call) -> Audit:
    found = file_access(pipeline, "ParquetWriter", _source(call), "parquet", changes=True)
    if found is None:
        return
    access, _ = found
    refuse_unless_recordable(pipeline, access)
    outcome = yield
    if outcome.error is not None:
        record_access(pipeline, access, outcome.error)
    else:
        _writing.remember(call.instance, Counted(pipeline, COMPONENT, [access]))


def _written(pipeline: Pipeline, call: Call) -> Audit:
    counted = _writing.get(call.instance)
    if counted is None:
        return
    outcome = yield
    if outcome.error is None:
        counted.add(call.argument(0, "table"))


def _writer_closed(pipeline: Pipeline, call: Call) -> Audit:
    counted = _writing.get(call.instance)
    if counted is None:
        return
    outcome = yield
    counted.end(outcome.error)
