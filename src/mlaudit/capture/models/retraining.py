"""The notice of a retrained model: its new version, the previous one, and the facts of the new run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.models.estimator_runs import model_fields
from mlaudit.capture.origin import originate
from mlaudit.catalog.names import ML_MODEL_RETRAINED
from mlaudit.errors import AuditRefusedError
from mlaudit.event import AuditEvent, Target

if TYPE_CHECKING:
    from mlaudit.capture.models.artifact_register import Previous
    from mlaudit.capture.models.known_models import Known
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.retraining"


def notice(
    pipeline: Pipeline,
    about: Known,
    previous: Previous | None,
    *,
    model: Any = None,
    fields: dict[str, Any] | None = None,
) -> None:
    """Records that ``about`` took the place of ``previous``; nothing where there is none.

    Contains its faults: the model is saved or registered already.

    Args:
        pipeline: of this process.
        about: the new version, with its run, data set and metrics where they are known.
        previous: see ``registry.Registered``.
        model: the model object, when there is one.
        fields: more fields of the kind, e.g. ``ml.registry.name``.
    """
    if previous is None:
        return
    try:
        facts = {
            **({} if model is None else model_fields(model, about.name, about)),
            "ml.model.name": about.name,
            "ml.model.version": about.version,
            "ml.model.digest": about.digest,
            "ml.model.path": about.path,
            "ml.model.previous.version": previous.version,
            "ml.model.previous.digest": previous.digest,
            "ml.model.previous.run_id": previous.run_id,
            "ml.training.run_id": about.run_id,
            "ml.training.metrics": dict(about.metrics),
            "ml.dataset.digest": about.dataset,
            **(fields or {}),
        }
        target = Target("model", f"{about.name}@{about.version}" if about.version else about.name)
        present = {name: value for name, value in facts.items() if value}
        pipeline.emit(originate(AuditEvent(ML_MODEL_RETRAINED, target=target, fields=present)))
    except AuditRefusedError:
        # The retraining has happened; the pipeline has counted the loss and reports it when it can write again.
        return
    except Exception as error:  # noqa: BLE001 - see above
        pipeline.fault(COMPONENT, error, kind=ML_MODEL_RETRAINED)
