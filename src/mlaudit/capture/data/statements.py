"""One SQL statement in progress, and the rows that the program fetches from its result."""

from __future__ import annotations

import contextvars
import functools
from typing import TYPE_CHECKING, Any

from mlaudit.capture.data.access import Access, record_access
from mlaudit.capture.process.finalizers import OnFinalize
from mlaudit.errors import AuditRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlaudit.capture.data.sql_text import Statement
    from mlaudit.pipeline.pipeline import Pipeline


def accesses_of(
    pipeline: Pipeline, statement: Statement, database: dict[str, Any]
) -> tuple[list[Access], list[Access]]:
    """The reads and the changes of a statement, one for each table that the policy names."""
    chosen = pipeline.policy.data.table
    reads = [
        _access("COPY" if statement.operation == "COPY" else "SELECT", table, database)
        for table in statement.read
        if chosen(table)
    ]
    operation = "SELECT INTO" if statement.operation == "SELECT" else statement.operation
    changes = [
        _access(operation, table, database, changes=True) for table in statement.changed if chosen(table)
    ]
    return reads, changes


def _access(operation: str, table: str, database: dict[str, Any], *, changes: bool = False) -> Access:
    fields = {**database, "db.collection.name": table, "db.operation.name": operation}
    return Access(operation, table, changes=changes, exports=not changes, target="table", fields=fields)


class Fetched:
    """A driver's cursor that counts the rows it returns; recorded once, when it is closed or finalized."""

    def __init__(self, cursor: Any, pipeline: Pipeline, component: str, accesses: list[Access]) -> None:
        rows = [0]
        context = contextvars.copy_context()
        record_rows = functools.partial(_record_accesses, pipeline, component, accesses, rows, context)
        given_up = OnFinalize(self, record_rows)
        object.__setattr__(self, "_cursor", cursor)
        object.__setattr__(self, "_rows", rows)
        object.__setattr__(self, "_given_up", given_up)
        object.__setattr__(self, "_record", record_rows)

    def fetchone(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's."""
        row = self._cursor.fetchone(*args, **kwargs)
        self._rows[0] += row is not None
        return row

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's."""
        rows = self._cursor.fetchmany(*args, **kwargs)
        self._rows[0] += len(rows)
        return rows

    def fetchall(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's."""
        rows = self._cursor.fetchall(*args, **kwargs)
        self._rows[0] += len(rows)
        return rows

    def close(self) -> Any:
        """As the driver's; records the rows."""
        if self._given_up.detach():
            self._record()
        return self._cursor.close()

    def __iter__(self) -> Iterator[Any]:
        for row in self._cursor:
            self._rows[0] += 1
            yield row

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._cursor, name, value)


def _record_accesses(
    pipeline: Pipeline, component: str, accesses: list[Access], rows: list[int], context: contextvars.Context
) -> None:
    for access in accesses:
        access.fields["ml.dataset.rows"] = rows[0]
        try:
            context.run(record_access, pipeline, access)
        except AuditRefusedError:
            continue  # counted by the pipeline; the rows are already returned
        except Exception as fault:  # noqa: BLE001 - auditing never breaks the program
            pipeline.fault(component, fault)
