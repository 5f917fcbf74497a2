"""Spans of databases and object stores: which data they read or change, by the policy's ``data``.

Made by existing instrumentations (DB-API drivers, SQLAlchemy, botocore). A statement in a span is read for its tables
only: no text of it is kept. A span does not show whether a transaction was committed: the
record is of the statement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mlaudit.capture.data import sql_text
from mlaudit.capture.data.access import Access, accessing, under_way
from mlaudit.capture.data.databases import system_name
from mlaudit.capture.data.places import place_of
from mlaudit.capture.data.statements import accesses_of
from mlaudit.catalog.names import DATA_EXPORTED, DATA_MODIFIED, DATA_READ

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlaudit.pipeline.pipeline import Pipeline

KINDS: Final = (DATA_READ, DATA_MODIFIED, DATA_EXPORTED)
covered: Final[set[str]] = set()
"""Scopes of spans for accesses that hooks in this process may record."""

S3_READS: Final = frozenset({"GetObject", "SelectObjectContent", "GetObjectTorrent"})
S3_CHANGES: Final = frozenset(
    {
        "PutObject",
        "CopyObject",
        "DeleteObject",
        "DeleteObjects",
        "CompleteMultipartUpload",
        "RestoreObject",
        "UploadPartCopy",
        "WriteGetObjectResponse",
        "DeleteBucket",
    }
)


class Found(NamedTuple):
    """The data accesses of a span, and whether hooks already record them."""

    accesses: list[Access]
    recorded: bool = False


NOTHING: Final = Found([])


def found_in(pipeline: Pipeline, scope: str, name: str, attributes: Mapping[str, Any]) -> Found:
    """The accesses of a finished span that the policy's ``data`` chooses."""
    data = pipeline.policy.data
    if data.has_tables and ("db.system.name" in attributes or "db.system" in attributes):
        found = _statement(pipeline, attributes)
        return Found([], recorded=bool(found)) if found and _is_recorded(scope) else Found(found)
    if data.has_paths and attributes.get("rpc.system", attributes.get("rpc.system.name")) == "aws-api":
        found = _object(pipeline, name, attributes)
        # The hook has bucket and key, and decides whether the policy records them.
        return Found([], recorded=bool(found)) if scope in covered else Found(found)
    return NOTHING


def _is_recorded(scope: str) -> bool:
    statement = under_way.get()
    return scope in covered or accessing.get() or (statement is not None and statement() is not None)


def _statement(pipeline: Pipeline, attributes: Mapping[str, Any]) -> list[Access]:
    get = attributes.get
    system = system_name(str(get("db.system.name") or get("db.system") or ""))
    database = {
        "db.system.name": system,
        "db.namespace": get("db.namespace") or get("db.name"),
        "server.address": get("server.address") or get("net.peer.name"),
    }
    text = get("db.query.text") or get("db.statement")
    if isinstance(text, str) and text:
        statement = sql_text.parse(text, backslash=sql_text.escapes(system))
    else:
        table = get("db.collection.name") or get("db.sql.table")
        operation = str(get("db.operation.name") or get("db.operation") or "").partition(" ")[0].upper()
        if not isinstance(table, str) or not table or not operation:
            return []
        tables = (table,)
        changes = sql_text.changes(operation)
        statement = sql_text.Statement(operation, () if changes else tables, tables if changes else ())
    reads, changed = accesses_of(pipeline, statement, database)
    rows = get("db.response.returned_rows")
    for access in reads:
        access.fields["ml.dataset.rows"] = rows if type(rows) is int else None
    return [*changed, *reads]


def _object(pipeline: Pipeline, name: str, attributes: Mapping[str, Any]) -> list[Access]:
    get = attributes.get
    method = str(get("rpc.method") or "").rpartition("/")[2]
    service = str(get("rpc.service") or "")
    if service != "S3" and not name.startswith("S3."):
        return []
    if method not in S3_READS and method not in S3_CHANGES:
        return []
    bucket, key = get("aws.s3.bucket"), get("aws.s3.key")
    # The instrumentation of botocore names neither: its span is of the store as a whole.
    place = place_of(f"s3://{bucket}/{key or ''}") if bucket else None
    uri = place.uri if place else ""
    shown = uri or "s3://"
    if not pipeline.policy.data.path(shown):
        return []
    return [
        Access(
            method,
            shown,
            changes=method in S3_CHANGES,
            target="object",
            fields={"ml.dataset.uri": uri, "server.address": get("server.address")},
        )
    ]
