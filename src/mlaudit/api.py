"""The public functions, for what hooks cannot capture: ``record``, ``actor``, ``purpose``, ``training_run``.

All of them do nothing when auditing is off, and never raise for a fault of their own, which is counted and recorded in
the trail. They raise ``AuditRefusedError`` when the policy forbids an unrecorded action.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.context import Setting, current_pipeline
from mlaudit.capture.models.training_run import training_run
from mlaudit.capture.origin import originate
from mlaudit.capture.request_context import current_actor, current_purpose, open_trail
from mlaudit.errors import AuditRefusedError
from mlaudit.event import FAILURE, SUCCESS, UNKNOWN, USER, Actor, AuditEvent, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["actor", "purpose", "record", "training_run"]

COMPONENT: Final = "api"


def record(
    kind: str,
    *,
    outcome: str = SUCCESS,
    target: Target | tuple[str, str] | str | None = None,
    actor: Actor | str | None = None,
    fields: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | None = None,
    **labels: Any,
) -> str | None:
    """Records one event.

    Args:
        kind: a kind of the catalog (docs/events.md), or a custom kind under ``audit.app.``, e.g.
            ``audit.app.report.exported``.
        outcome: ``success``, ``failure`` or ``unknown``.
        target: the object of the action: ``("report", "fairness-2026-11")``; a text alone is an ``object``.
        actor: who acted; default: the actor of this context (see ``actor``), else the service itself.
        fields: catalog fields, flat dotted names, recorded at every level.
        inputs: catalog fields recorded only at policy level ``inputs`` and above.
        outputs: catalog fields recorded only at policy level ``full``.
        **labels: short values without personal data, searchable as ``labels.<name>``.

    Returns:
        The id of the record; None when auditing is off, the policy excludes the event, or the record was lost (which
        the trail reports later).

    Raises:
        AuditRefusedError: the record could not be stored and the policy says ``on_failure: refuse``.
    """
    pipeline = current_pipeline()
    if pipeline is None:
        return None
    try:
        event = AuditEvent(
            kind,
            outcome if outcome in (SUCCESS, FAILURE) else UNKNOWN,
            actor=Actor(actor) if isinstance(actor, str) else actor,
            target=_target(target),
            fields=dict(fields or {}),
            inputs=dict(inputs or {}),
            outputs=dict(outputs or {}),
        )
        if labels:
            event.fields["labels"] = {**event.fields.get("labels", {}), **_labels(labels)}
        originate(event)
        get = event.fields.get
        decision = pipeline.decide(
            kind,
            route=get("http.route", ""),
            model=get("ml.model.name", ""),
            actor=(event.actor or pipeline.actor).id,
        )
        if decision.level == 0:
            return None
        receipt = pipeline.emit(event, decision)
        return receipt.record_id if receipt.ok else None
    except AuditRefusedError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever was passed in, the caller goes on
        pipeline.fault(COMPONENT, error, kind=kind if isinstance(kind, str) else "", outcome=UNKNOWN)
        return None


class actor:  # noqa: N801 - used like a function: with mlaudit.actor("alice"):
    """Sets the actor in a block of code; works with ``with`` and ``async with``, across awaits and threads.

    ::

        with mlaudit.actor(user.id, name=user.name, roles=user.roles):
            model.predict(rows)

    Within a request it also sets the actor of the request's own record, for frameworks whose authentication mlaudit
    cannot see.
    """

    def __init__(
        self,
        id: str,  # noqa: A002 - the caller's word: mlaudit.actor(id=…, type=…)
        type: str = USER,  # noqa: A002
        name: str | None = None,
        roles: Iterable[str] = (),
    ) -> None:
        """Takes the actor.

        Args:
            id: the id in the service; the policy decides how it is recorded.
            type: ``user``, ``service`` or ``system``.
            name: a human-readable name.
            roles: the actor's roles.
        """
        self._actor = Actor(str(id), type, name, tuple(roles), method="context")
        self._setting = Setting(current_actor)

    def __enter__(self) -> Actor:
        self._setting.set(self._actor)
        trail = open_trail()
        if trail is not None:
            # Not reset: the request's record is written after this block.
            trail.actor = self._actor
        return self._actor

    def __exit__(self, *_: object) -> None:
        self._setting.restore()

    async def __aenter__(self) -> Actor:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()


class purpose:  # noqa: N801 - used like a function: with mlaudit.purpose("monthly retraining"):
    """Sets the purpose of data access in a block of code; works with ``with`` and ``async with``, across awaits.

    ::

        with mlaudit.purpose("monthly retraining"):
            loans = pandas.read_parquet("/data/loans.parquet")

    Recorded as ``ml.dataset.purpose`` of every read, change and export inside. The innermost purpose applies; without
    one, the purpose of the ``training_run`` applies.
    """

    def __init__(self, text: str) -> None:
        """Takes the purpose.

        Args:
            text: a few words without personal data; at most 256 characters are kept.
        """
        self._text = str(text)[:256]
        self._setting = Setting(current_purpose)

    def __enter__(self) -> str:
        self._setting.set(self._text)
        return self._text

    def __exit__(self, *_: object) -> None:
        self._setting.restore()

    async def __aenter__(self) -> str:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()


def _target(target: Target | tuple[str, str] | str | None) -> Target | None:
    if target is None or isinstance(target, Target):
        return target
    if isinstance(target, str):
        return Target("object", target)
    kind, name = target
    return Target(str(kind), str(name))


def _labels(labels: Mapping[str, Any]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else str(value) for name, value in labels.items()}
