"""SQLAlchemy (2.0 and later): what statements read and change in the tables that the policy names.

By SQLAlchemy's own events, so Core, ORM, sync and async engines alike. A read is recorded with the rows that the
program fetched, when its result is closed. A change is recorded when its transaction ends: committed it is done,
rolled back it is recorded as a failure. The end of a commit has no event, nor has a savepoint's name: these calls are
hooked.
"""

from __future__ import annotations

import functools
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.data import data_spans, sql_text
from mlaudit.capture.data.access import Access, accessing, record_access, refuse_unless_recordable, under_way
from mlaudit.capture.data.databases import database_of, held, transaction_of, unwatch, watch
from mlaudit.capture.data.statements import Fetched, accesses_of
from mlaudit.capture.hooks import Audit, Call, Hooks, refuse_unless_writable
from mlaudit.catalog.names import DATA_MODIFIED, DATA_READ
from mlaudit.errors import AuditRefusedError
from mlaudit.event import UNKNOWN
from mlaudit.pipeline import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.sqlalchemy"
_OWN_SPANS: Final = "opentelemetry.instrumentation.sqlalchemy"
_DEFINITIONS: Final = ("CREATE", "DROP", "ALTER", "TRUNCATE")
# These end the transaction before such a statement and begin none for it.
_COMMIT_DEFINITIONS: Final = ("mysql", "mariadb", "oracle")
_hooks: Final = Hooks(COMPONENT)
_running: Final[weakref.WeakKeyDictionary[Any, tuple[list[Access], list[Access]]]] = (
    weakref.WeakKeyDictionary()
)


class SQLAlchemyIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "sqlalchemy"
    module: ClassVar[str] = "sqlalchemy.engine"

    def instrument(self) -> None:
        """Listens to the events of every engine, and hooks the commits of connections."""
        from sqlalchemy import event
        from sqlalchemy.engine import Connection, Engine

        if _hooks.are_set:
            return
        for name, listener in _LISTENERS.items():
            event.listen(Engine, name, listener)
            _hooks.when_undone(functools.partial(event.remove, Engine, name, listener))
        for name in ("_commit_impl", "_commit_twophase_impl"):
            _hooks.around(Connection, name, _commit, kind=DATA_MODIFIED, when=_has_changed)
        _hooks.around(Connection, "_savepoint_impl", _savepoint)
        watch(COMPONENT)
        data_spans.covered.add(_OWN_SPANS)

    def uninstrument(self) -> None:
        """Removes the listeners and hooks."""
        unwatch(COMPONENT)
        data_spans.covered.discard(_OWN_SPANS)
        _hooks.undo()


def _contained(listener: Callable[..., None]) -> Callable[..., None]:
    """The listener with its faults contained; a refusal is raised."""

    def contained(*args: Any) -> None:
        pipeline = current.pipeline()
        if pipeline is None or not pipeline.policy.data.has_tables:
            return
        try:
            listener(pipeline, *args)
        except AuditRefusedError:
            raise
        except Exception as fault:  # noqa: BLE001 - auditing never breaks the program
            pipeline.fault(COMPONENT, fault, kind=DATA_MODIFIED, outcome=UNKNOWN)

    return contained


def _before(
    pipeline: Pipeline, connection: Any, cursor: Any, statement: str, _: Any, context: Any, many: bool
) -> None:
    if accessing.get():
        return
    database = database_of(connection)
    found = sql_text.parse(statement, backslash=sql_text.escapes(database.get("db.system.name", "")))
    reads, changes = accesses_of(pipeline, found, database)
    if not reads and not changes:
        return
    # Nothing is read or changed that could not be recorded, when the policy says so.
    for access in changes:
        refuse_unless_recordable(pipeline, access)
    for access in reads:
        refuse_unless_writable(pipeline, DATA_READ, f"reading {access.name}")
    _running[connection] = reads, changes
    if context is not None:
        under_way.set(weakref.ref(context))


def _after(
    pipeline: Pipeline, connection: Any, cursor: Any, statement: str, _: Any, context: Any, many: bool
) -> None:
    running = _running.pop(connection, None)
    if running is None:
        return
    reads, changes = running
    under_way.set(None)
    gives_rows = getattr(cursor, "description", None) is not None
    if changes:
        rows = getattr(cursor, "rowcount", -1)
        known = isinstance(rows, int) and (rows > 0 or (rows == 0 and not gives_rows))
        for access in changes:
            access.fields["ml.dataset.rows"] = rows if known else None
            _changed(pipeline, connection, access)
    if reads and not changes and gives_rows and context is not None:
        context.cursor = Fetched(cursor, pipeline, COMPONENT, reads)
        return
    for access in reads:
        record_access(pipeline, access)


def _changed(pipeline: Pipeline, connection: Any, access: Access) -> None:
    at_once = _commits_itself(connection) or (
        connection.dialect.name in _COMMIT_DEFINITIONS and access.operation in _DEFINITIONS
    )
    if at_once:
        with suppress(AuditRefusedError):  # counted by the pipeline; the change has happened
            record_access(pipeline, access)
        return
    transaction_of(pipeline, COMPONENT, connection).add(access)


def _commits_itself(connection: Any) -> bool:
    level = connection.get_execution_options().get("isolation_level")
    if level is None:
        level = getattr(connection.dialect, "_on_connect_isolation_level", None)
    return bool(level == "AUTOCOMMIT")


def _failed(pipeline: Pipeline, context: Any) -> None:
    running = _running.pop(context.connection, None) if context.connection is not None else None
    if running is None:
        return
    reads, changes = running
    under_way.set(None)
    error = context.original_exception
    with suppress(AuditRefusedError):  # nothing was read or changed
        for access in (*changes, *reads):
            record_access(pipeline, access, error)


def _has_changed(call: Call) -> bool:
    return held(call.instance) is not None


def _commit(pipeline: Pipeline, call: Call) -> Audit:
    outcome = yield
    transaction = held(call.instance)
    if transaction is not None:
        transaction.end(error=outcome.error)


def _rolled_back(pipeline: Pipeline, connection: Any, *_: Any) -> None:
    transaction = held(connection)
    if transaction is not None:
        transaction.end("rolled back: nothing was changed")


def _savepoint(pipeline: Pipeline, call: Call) -> Audit:
    if not pipeline.policy.data.has_tables:
        return
    outcome = yield
    if outcome.error is None:
        transaction_of(pipeline, COMPONENT, call.instance).savepoint(str(outcome.result))


def _rolled_back_to(pipeline: Pipeline, connection: Any, name: str, _: Any) -> None:
    transaction = held(connection)
    if transaction is not None:
        transaction.roll_back_to(name)


def _released(pipeline: Pipeline, connection: Any, name: str, _: Any) -> None:
    transaction = held(connection)
    if transaction is not None:
        transaction.release(name)


_LISTENERS: Final = {
    "before_cursor_execute": _contained(_before),
    "after_cursor_execute": _contained(_after),
    "handle_error": _contained(_failed),
    "rollback": _contained(_rolled_back),
    "rollback_twophase": _contained(_rolled_back),
    "rollback_savepoint": _contained(_rolled_back_to),
    "release_savepoint": _contained(_released),
}
