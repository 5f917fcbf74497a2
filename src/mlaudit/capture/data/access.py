"""Records data that was read, changed or exported; the hooks of libraries and the spans use it.

The records describe the data: its place, size and digest. They never contain the data or a statement's text,
and of an error only the class, because messages of databases and parsers quote values.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.data.digest import digest, shape
from mlaudit.capture.data.places import Place, places_of
from mlaudit.capture.hooks import refuse_unless_writable
from mlaudit.capture.origin import originate
from mlaudit.capture.request_context import current_purpose, current_run
from mlaudit.catalog.names import DATA_EXPORTED, DATA_MODIFIED, DATA_READ
from mlaudit.event import FAILURE, SUCCESS, AuditEvent, Target

if TYPE_CHECKING:
    import weakref

    from mlaudit.pipeline.pipeline import Pipeline

under_way: Final[ContextVar[weakref.ref[Any] | None]] = ContextVar("mlaudit_statement", default=None)
"""The current statement, for spans of its driver. Only as long as it lives: its end may never be reported."""
accessing: Final[ContextVar[bool]] = ContextVar("mlaudit_accessing_data", default=False)
"""Whether a data access is in progress: nested ones (pandas uses SQLAlchemy, a driver makes a span) are part of it."""


@dataclass(slots=True)
class Access:
    """One access to data.

    Attributes:
        operation: the function or statement, e.g. ``read_parquet`` or ``UPDATE``.
        name: of the data, see ``ml.dataset.name``.
        changes: it writes, changes or deletes.
        exports: many rows of it count as an export.
        target: what ``name`` is: ``dataset``, ``table`` or ``object``.
        fields: more catalog fields; empty text and None are left out.
    """

    operation: str
    name: str
    changes: bool = False
    exports: bool = True
    target: str = "dataset"
    fields: dict[str, Any] = field(default_factory=dict)


def file_access(
    pipeline: Pipeline, operation: str, source: Any, form: str, *, changes: bool = False
) -> tuple[Access, Place] | None:
    """The access to a file or an object, and its place; None when the policy does not record it."""
    data = pipeline.policy.data
    if not data.has_paths:
        return None
    place = next((one for one in places_of(source) if data.path(one.name)), None)
    if place is None:
        return None
    fields = {"ml.dataset.uri": place.uri, "ml.dataset.format": form}
    return Access(operation, place.name, changes=changes, fields=fields), place


def described(data: Any) -> dict[str, Any]:
    """Rows, columns and digest of a frame, a series, a table, or of several of them in a dict or list (no digest)."""
    if isinstance(data, dict | list):
        parts = list(data.values()) if isinstance(data, dict) else data
        counts = [shape(part)[0] for part in parts]
        return {"ml.dataset.rows": sum(count or 0 for count in counts)}
    rows, columns = shape(data)
    return {"ml.dataset.rows": rows, "ml.dataset.columns": columns, "ml.dataset.digest": digest(data)}


def refuse_unless_recordable(pipeline: Pipeline, access: Access) -> None:
    """Refuses, before data is written, a write that could not be recorded, if the policy says so.

    Raises:
        AuditRefusedError: as ``refuse_unless_writable``.
    """
    refuse_unless_writable(pipeline, _kind(pipeline, access, failed=False), f"writing {access.name}")


def record_access(
    pipeline: Pipeline, access: Access, error: BaseException | None = None, *, reason: str = ""
) -> None:
    """Records the access; ``reason`` without an error says why it had no effect.

    Raises:
        AuditRefusedError: it cannot be recorded and the policy says refuse.
    """
    failed = error is not None or bool(reason)
    fields = {"event.reason": reason, "error.type": type(error).__name__ if error is not None else ""}
    pipeline.emit(originate(event_of(pipeline, access, failed=failed, fields=fields)))


def event_of(pipeline: Pipeline, access: Access, *, failed: bool, fields: dict[str, Any]) -> AuditEvent:
    """The event of an access, with more ``fields``; the current run gets it as its data set."""
    found = {
        "ml.dataset.operation": access.operation,
        "ml.dataset.name": access.name,
        "ml.dataset.purpose": current_purpose.get(),
        **access.fields,
        **fields,
    }
    run = current_run.get()
    if run is not None:
        found["ml.training.run_id"] = run.run_id
        labels = run.fields.get("labels")
        if not found["ml.dataset.purpose"] and isinstance(labels, dict):
            found["ml.dataset.purpose"] = labels.get("purpose")
    found = {name: value for name, value in found.items() if value not in ("", None)}
    if run is not None and not failed and not access.changes:
        _learnt(run.fields, found)
    return AuditEvent(
        _kind(pipeline, access, failed=failed),
        FAILURE if failed else SUCCESS,
        target=Target(access.target, access.name),
        fields=found,
    )


def _kind(pipeline: Pipeline, access: Access, *, failed: bool) -> str:
    if not failed and access.exports and pipeline.policy.data.is_bulk(access.fields.get("ml.dataset.rows")):
        return DATA_EXPORTED
    return DATA_MODIFIED if access.changes else DATA_READ


def _learnt(known: dict[str, Any], fields: dict[str, Any]) -> None:
    """The first data that a run reads is its data set, unless its code names one."""
    if "ml.dataset.name" in known or "ml.dataset.digest" in known:
        return
    # A statement may be a library's own housekeeping: only data that is read as a whole counts.
    if "db.collection.name" in fields and "ml.dataset.digest" not in fields:
        return
    known.update({name: fields[name] for name in ("ml.dataset.name", "ml.dataset.digest") if name in fields})
