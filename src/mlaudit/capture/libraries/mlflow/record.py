"""The fields of records about a model in MLflow's format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlaudit.capture.models.estimator_runs import error_fields
from mlaudit.capture.origin import originate
from mlaudit.event import AuditEvent, Target

if TYPE_CHECKING:
    from mlaudit.capture.hooks import Outcome
    from mlaudit.capture.models.known_models import Known
    from mlaudit.pipeline.pipeline import Pipeline


def flavors(meta: Any) -> dict[str, str]:
    """The libraries that can read it, as a label."""
    found = sorted(getattr(meta, "flavors", None) or ())
    return {"flavors": ", ".join(map(str, found))[:256]} if found else {}


def fields_of(about: Known) -> dict[str, Any]:
    """The model as catalog fields; empty text where nothing is known."""
    return {
        "ml.model.name": about.name,
        "ml.model.version": about.version,
        "ml.model.digest": about.digest,
        "ml.model.path": about.path,
        "ml.training.run_id": about.run_id,
    }


def emit(pipeline: Pipeline, kind: str, outcome: Outcome, about: Known, fields: dict[str, Any]) -> None:
    """Records what was done to the model, and how it ended."""
    if outcome.error is not None:
        fields |= error_fields(outcome.error)
    target = Target("model", f"{about.name}@{about.version}" if about.version else about.name)
    present = {name: value for name, value in fields.items() if value != ""}
    pipeline.emit(originate(AuditEvent(kind, outcome.outcome, target=target, fields=present)))
