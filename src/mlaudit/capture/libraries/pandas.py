"""pandas (2.0 and later): what its readers read and its writers write, by file, object and table.

One call is one record, whatever pandas calls in pyarrow, SQLAlchemy or itself. Data is digested as
``digest.py`` describes, so that the digest of a frame that was read is the one that a training sees when it gets the
same frame. What is read in chunks is recorded when the last chunk was read, the reader closed or abandoned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.data import chunks, sql_text
from mlaudit.capture.data.access import (
    Access,
    accessing,
    described,
    file_access,
    record_access,
    refuse_unless_recordable,
)
from mlaudit.capture.data.databases import database_of, hold
from mlaudit.capture.hooks import Audit, Call, Hooks
from mlaudit.catalog.names import DATA_MODIFIED, DATA_READ

if TYPE_CHECKING:
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.pandas"
_READERS: Final = {
    "read_csv": "csv",
    "read_excel": "excel",
    "read_feather": "feather",
    "read_fwf": "fwf",
    "read_hdf": "hdf5",
    "read_html": "html",
    "read_json": "json",
    "read_orc": "orc",
    "read_parquet": "parquet",
    "read_pickle": "pickle",
    "read_sas": "sas",
    "read_spss": "spss",
    "read_stata": "stata",
    "read_table": "csv",
    "read_xml": "xml",
}
_SQL_READERS: Final = ("read_sql", "read_sql_query", "read_sql_table")
_WRITERS: Final = {
    "to_csv": "csv",
    "to_excel": "excel",
    "to_feather": "feather",
    "to_hdf": "hdf5",
    "to_html": "html",
    "to_json": "json",
    "to_orc": "orc",
    "to_parquet": "parquet",
    "to_pickle": "pickle",
    "to_stata": "stata",
    "to_xml": "xml",
}
# What the first argument is called by keyword.
_PLACES: Final = (
    "filepath_or_buffer",
    "path_or_buf",
    "path_or_buffer",
    "path",
    "io",
    "buf",
    "excel_writer",
)
_hooks: Final = Hooks(COMPONENT)


class PandasIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "pandas"
    module: ClassVar[str] = "pandas"

    def instrument(self) -> None:
        """Hooks the readers of the module, and the writers of frames and series."""
        import pandas as pd

        for name in _READERS:
            _around(pd, name, _read, DATA_READ)
        for name in _SQL_READERS:
            _around(pd, name, _read_sql, DATA_READ)
        _around(pd.ExcelFile, "parse", _read, DATA_READ)
        for name in _WRITERS:
            _around_method(name, _write)
        _around_method("to_sql", _write_sql)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        _hooks.undo()


def _around(owner: Any, name: str, audit: Any, kind: str) -> None:
    _hooks.around(
        owner, name, audit, kind=kind, outermost=True, level=accessing, refuse_after=kind == DATA_READ
    )


def _around_method(name: str, audit: Any) -> None:
    import pandas as pd

    for cls in (pd.DataFrame, pd.Series):
        # Both have most of them from one class.
        owner = next((base for base in cls.__mro__ if name in vars(base)), None)
        if owner is not None:
            _around(owner, name, audit, DATA_MODIFIED)


def _source(call: Call) -> Any:
    if call.args:
        return call.args[0]
    return next((call.kwargs[name] for name in _PLACES if name in call.kwargs), None)


def _read(pipeline: Pipeline, call: Call) -> Audit:
    of_file = call.instance is not None
    source = call.instance if of_file else _source(call)
    name = "read_excel" if of_file else call.name
    found = file_access(pipeline, name, source, _READERS[name])
    if found is None:
        return
    access, place = found
    access.fields["ml.dataset.bytes"] = place.size
    outcome = yield
    if outcome.error is not None:
        record_access(pipeline, access, outcome.error)
        return
    outcome.result = chunks.seen(pipeline, COMPONENT, [access], outcome.result)


def _write(pipeline: Pipeline, call: Call) -> Audit:
    target = _source(call)
    if target is None:
        # It gives the text to the program, which writes nothing yet.
        return
    found = file_access(pipeline, call.name, target, _WRITERS[call.name], changes=True)
    if found is None:
        return
    access, place = found
    # Before: a writer may be given what changes, and the digest is of what it was given.
    access.fields |= described(call.instance)
    refuse_unless_recordable(pipeline, access)
    outcome = yield
    access.fields["ml.dataset.bytes"] = place.size if outcome.error is None else None
    record_access(pipeline, access, outcome.error)


def _read_sql(pipeline: Pipeline, call: Call) -> Audit:
    if not pipeline.policy.data.has_tables:
        return
    connection = call.argument(1, "con")
    database = database_of(connection)
    if call.name == "read_sql_table":
        tables: tuple[str, ...] = (_named(call.argument(0, "table_name"), call.argument(2, "schema")),)
    else:
        tables = _tables(call.argument(0, "sql"), database.get("db.system.name", ""))
    accesses = [
        Access(
            call.name,
            table,
            target="table",
            fields={**database, "db.collection.name": table, "db.operation.name": "SELECT"},
        )
        for table in tables
        if pipeline.policy.data.table(table)
    ]
    if not accesses:
        return
    outcome = yield
    if outcome.error is not None:
        for access in accesses:
            record_access(pipeline, access, outcome.error)
        return
    outcome.result = chunks.seen(pipeline, COMPONENT, accesses, outcome.result)


def _write_sql(pipeline: Pipeline, call: Call) -> Audit:
    table = _named(call.argument(0, "name"), call.argument(2, "schema"))
    if not pipeline.policy.data.table(table):
        return
    connection = call.argument(1, "con")
    access = Access(
        call.name,
        table,
        changes=True,
        exports=False,
        target="table",
        fields={
            **database_of(connection),
            "db.collection.name": table,
            "db.operation.name": "INSERT",
            **described(call.instance),
        },
    )
    refuse_unless_recordable(pipeline, access)
    outcome = yield
    # In a transaction of the program's own nothing is changed before it is committed.
    if outcome.error is not None or not hold(pipeline, connection, access):
        record_access(pipeline, access, outcome.error)


def _named(table: Any, schema: Any) -> str:
    return f"{schema}.{table}" if schema else str(table)


def _tables(sql: Any, system: str) -> tuple[str, ...]:
    text = sql if isinstance(sql, str) else str(getattr(sql, "text", None) or sql)
    if isinstance(sql, str) and sql_text.is_name(text):
        return (text,)  # read_sql takes a table's name too
    statement = sql_text.parse(text, backslash=sql_text.escapes(system))
    return (*statement.read, *(name for name in statement.changed if name not in statement.read))
