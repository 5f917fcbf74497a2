"""The database of a connection, and the changes of a transaction until it ends."""

from __future__ import annotations

import contextvars
import functools
import weakref
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from mlaudit.capture.data.access import Access, record_access
from mlaudit.capture.process.finalizers import OnFinalize
from mlaudit.errors import AuditRefusedError

if TYPE_CHECKING:
    from mlaudit.pipeline.pipeline import Pipeline

# Names as OpenTelemetry has them for db.system.name; drivers by the first part of their module's name.
_SYSTEMS: Final = {
    "oracle": "oracle.db",
    "mssql": "microsoft.sql_server",
    "oracledb": "oracle.db",
    "cx_Oracle": "oracle.db",
    "pyodbc": "",
    "sqlite3": "sqlite",
    "psycopg": "postgresql",
    "psycopg2": "postgresql",
    "asyncpg": "postgresql",
    "pymysql": "mysql",
    "MySQLdb": "mysql",
    "mysql": "mysql",
    "pymssql": "microsoft.sql_server",
}
_held: Final[weakref.WeakKeyDictionary[Any, Transaction]] = weakref.WeakKeyDictionary()


def database_of(connection: Any) -> dict[str, Any]:
    """System, name and host of the database behind an engine, a connection of SQLAlchemy or of a driver, or a URL."""
    if isinstance(connection, str):
        parts = urlsplit(connection)
        name = parts.scheme.partition("+")[0]
        found = {
            "db.system.name": system_name(name),
            "db.namespace": parts.path.lstrip("/") if name != "sqlite" else parts.path[1:],
            "server.address": parts.hostname,
        }
    elif hasattr(connection, "dialect"):
        url = getattr(getattr(connection, "engine", connection), "url", None)
        found = {
            "db.system.name": system_name(getattr(connection.dialect, "name", "")),
            "db.namespace": getattr(url, "database", None),
            "server.address": getattr(url, "host", None),
        }
    else:
        found = {"db.system.name": system_name(type(connection).__module__.partition(".")[0])}
    return {name: value for name, value in found.items() if isinstance(value, str) and value}


def system_name(name: str) -> str:
    """OpenTelemetry's name of the database of a dialect or a driver."""
    return _SYSTEMS.get(name, name)


class Transaction:
    """The uncommitted changes of one connection.

    Changes of one table by one operation are one record: a flush of a thousand rows is one change of a thousand rows.
    """

    def __init__(self, pipeline: Pipeline, component: str) -> None:
        self._current = pipeline
        self._component = component
        # The changes since the begin, and since each savepoint.
        self._parts: list[tuple[str, list[_Change]]] = [("", [])]

    def add(self, access: Access) -> None:
        """Adds a change."""
        part = self._parts[-1][1]
        for change in part:
            if change.takes(access):
                return
        part.append(_Change(access))

    def savepoint(self, name: str) -> None:
        """Starts a savepoint."""
        self._parts.append((name, []))

    def release(self, name: str) -> None:
        """Releases a savepoint: its changes belong to the enclosing part."""
        for change in self._from(name):
            self._parts[-1][1].append(change)

    def roll_back_to(self, name: str) -> None:
        """Rolls back to a savepoint: records its changes as undone."""
        self._record(self._from(name), "rolled back to a savepoint: nothing was changed")

    def end(self, reason: str = "", error: BaseException | None = None) -> None:
        """Ends the transaction: committed, or undone for this reason or by this error."""
        parts, self._parts = self._parts, [("", [])]
        self._record([change for _, part in parts for change in part], reason, error)

    def _from(self, name: str) -> list[_Change]:
        place = next((at for at, (known, _) in enumerate(self._parts) if known == name and at), None)
        if place is None:
            return []
        taken = [change for _, part in self._parts[place:] for change in part]
        del self._parts[place:]
        return taken

    def _record(self, changes: list[_Change], reason: str, error: BaseException | None = None) -> None:
        for change in changes:
            try:
                change.record(self._current, reason, error)
            except AuditRefusedError:
                continue  # counted by the pipeline; the change has happened
            except Exception as fault:  # noqa: BLE001 - auditing never breaks the program
                self._current.fault(self._component, fault)


class _Change:
    def __init__(self, access: Access) -> None:
        self._access = access
        self._statements = 1
        self._context = contextvars.copy_context()

    def takes(self, access: Access) -> bool:
        """Whether it continues the same change; then its rows are counted."""
        mine = self._access
        if (mine.name, mine.operation) != (access.name, access.operation):
            return False
        rows = access.fields.get("ml.dataset.rows")
        known = mine.fields.get("ml.dataset.rows")
        # A sum without some statements would be wrong.
        mine.fields["ml.dataset.rows"] = None if rows is None or known is None else known + rows
        self._statements += 1
        return True

    def record(self, pipeline: Pipeline, reason: str, error: BaseException | None) -> None:
        """Records the change with its outcome, in the context in which it started."""
        if self._statements > 1:
            self._access.fields["labels"] = {"statements": str(self._statements)}
        self._context.run(lambda: record_access(pipeline, self._access, error, reason=reason))


def transaction_of(pipeline: Pipeline, component: str, connection: Any) -> Transaction:
    """The transaction of a connection of SQLAlchemy; recorded as abandoned when the connection is finalized."""
    found = _held.get(connection)
    if found is None:
        found = _held[connection] = Transaction(pipeline, component)
        end = functools.partial(
            found.end, "the connection was given up in its transaction: nothing was changed"
        )
        OnFinalize(connection, end)
    return found


def held(connection: Any) -> Transaction | None:
    """The connection's uncommitted changes, if any."""
    return _held.get(connection)


def hold(pipeline: Pipeline, connection: Any, access: Access) -> bool:
    """Keeps a change of another library until the connection's own transaction ends; False when it has none.

    Only where SQLAlchemy's hooks are set to see the end.
    """
    in_transaction = getattr(connection, "in_transaction", None)
    if not _watching or not callable(in_transaction) or not in_transaction():
        return False
    transaction_of(pipeline, "capture.libraries.sqlalchemy", connection).add(access)
    return True


_watching: set[str] = set()


def watch(component: str) -> None:
    """Declares that the ends of transactions are hooked from now on."""
    _watching.add(component)


def unwatch(component: str) -> None:
    """Reverts ``watch``."""
    _watching.discard(component)
