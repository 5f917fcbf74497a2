"""botocore (1.31 and later), and with it boto3: objects of S3 that are read, written, copied and deleted.

By bucket and key, which the spans of botocore's instrumentation do not name. A large object that boto3 transfers in
parts is read by one call for each part, and written by the call that completes it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import unquote, urlsplit

from mlaudit.capture.data import data_spans
from mlaudit.capture.data.access import Access, accessing, record_access, refuse_unless_recordable
from mlaudit.capture.hooks import Audit, Call, Hooks, refuse_unless_writable
from mlaudit.catalog.names import DATA_READ

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.botocore"
_OWN_SPANS: Final = "opentelemetry.instrumentation.botocore"
_hooks: Final = Hooks(COMPONENT)


class BotocoreIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "botocore"
    module: ClassVar[str] = "botocore.client"

    def instrument(self) -> None:
        """Hooks the one method by which every client calls its service."""
        client: Any = importlib.import_module("botocore.client")
        _hooks.around(
            client.BaseClient,
            "_make_api_call",
            _call,
            kind=DATA_READ,
            outermost=True,
            level=accessing,
            refuse_after=True,
            when=_is_of_objects,
        )
        data_spans.covered.add(_OWN_SPANS)

    def uninstrument(self) -> None:
        """Puts the original back."""
        data_spans.covered.discard(_OWN_SPANS)
        _hooks.undo()


def _is_of_objects(call: Call) -> bool:
    method = call.argument(0, "operation_name")
    return (
        method in data_spans.S3_READS or method in data_spans.S3_CHANGES
    ) and call.instance.meta.service_model.service_name == "s3"


def _call(pipeline: Pipeline, call: Call) -> Audit:
    method = call.argument(0, "operation_name")
    given = call.argument(1, "api_params")
    if not pipeline.policy.data.has_paths or not isinstance(given, dict):
        return
    accesses = _accesses(pipeline, method, given)
    if not accesses:
        return
    host = urlsplit(str(call.instance.meta.endpoint_url)).hostname
    for access in accesses:
        access.fields["server.address"] = host
        if access.changes:
            refuse_unless_recordable(pipeline, access)
        else:
            refuse_unless_writable(pipeline, DATA_READ, f"reading {access.name}")
    outcome = yield
    for access in accesses:
        if outcome.error is None and access.operation == "GetObject":
            access.fields["ml.dataset.bytes"] = _number(outcome.result.get("ContentLength"))
        record_access(pipeline, access, outcome.error)


def _accesses(pipeline: Pipeline, method: str, given: Mapping[str, Any]) -> list[Access]:
    """What the call reads and changes, where the policy records it."""
    chosen = pipeline.policy.data.path
    bucket = str(given.get("Bucket") or "")
    changes = method in data_spans.S3_CHANGES
    fields: dict[str, Any] = {}
    name = f"s3://{bucket}/{given.get('Key') or ''}"
    if method == "DeleteObjects":
        objects = (given.get("Delete") or {}).get("Objects") or ()
        keys = [f"s3://{bucket}/{one.get('Key')}" for one in objects]
        name = f"s3://{bucket}/" if any(map(chosen, keys)) else ""
        fields["labels"] = {"objects": str(len(keys))}
    elif not chosen(name):
        name = ""
    if method == "PutObject":
        body = given.get("Body")
        size = len(body) if isinstance(body, bytes | bytearray) else given.get("ContentLength")
        fields["ml.dataset.bytes"] = _number(size)
    found = [_access(method, name, changes=changes, fields=fields)] if name else []
    source = _copied(given.get("CopySource"))
    if source and chosen(source):
        found.append(_access(method, source, changes=False, fields={}))
    return found


def _access(method: str, name: str, *, changes: bool, fields: dict[str, Any]) -> Access:
    return Access(method, name, changes=changes, target="object", fields={**fields, "ml.dataset.uri": name})


def _copied(source: Any) -> str:
    """The object that a copy reads: botocore takes a mapping, or bucket and key in one text."""
    if isinstance(source, dict):
        return f"s3://{source.get('Bucket')}/{source.get('Key')}"
    return f"s3://{unquote(source.partition('?')[0]).lstrip('/')}" if isinstance(source, str) else ""


def _number(value: Any) -> int | None:
    return value if type(value) is int else None
