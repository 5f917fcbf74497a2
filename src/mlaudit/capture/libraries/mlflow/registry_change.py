"""One change of MLflow's model registry: recorded with its outcome."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mlaudit.capture.hooks import refuse_unless_writable
from mlaudit.capture.libraries.mlflow.state import actor
from mlaudit.capture.models.artifact_register import ArtifactRegister
from mlaudit.capture.models.estimator_runs import error_fields
from mlaudit.capture.origin import originate
from mlaudit.catalog.names import ML_CONFIG_CHANGED, ML_MODEL_PROMOTED, ML_MODEL_REGISTERED
from mlaudit.event import AuditEvent, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlaudit.capture.hooks import Call, Outcome
    from mlaudit.pipeline.pipeline import Pipeline


class Change:
    """One change of the registry: recorded with its outcome."""

    def __init__(self, pipeline: Pipeline, kind: str, call: Call, version: str = "") -> None:
        """Begins it.

        Raises:
            AuditRefusedError: the policy says refuse, and no record of it can be stored.
        """
        self.pipeline = pipeline
        self.client = call.instance
        self.name = str(call.argument(0, "name"))
        self.version = version
        self._kind = kind
        refuse_unless_writable(pipeline, kind, f"a change of the model {self.name}", model=self.name)
        self.fields: dict[str, Any] = {}
        if kind == ML_CONFIG_CHANGED:
            self.fields["ml.config.source"] = "registry"
        else:
            self.fields["ml.registry.name"] = "mlflow"
        if kind != ML_MODEL_REGISTERED:
            settings = pipeline.settings
            self.fields["ml.change.ticket"] = settings.change_ticket
            self.fields["ml.change.approver"] = settings.change_approver
        if kind in (ML_CONFIG_CHANGED, ML_MODEL_PROMOTED):
            self.fields["ml.change.in_window"] = pipeline.policy.change.in_window(time.time_ns())

    def before(self, ask: Callable[[], Any], default: Any = None) -> Any:
        """The state of the registry before the change; ``default`` if it does not answer."""
        try:
            return ask()
        except Exception:  # noqa: BLE001 - the change itself will raise the error
            return default

    def lineage(self) -> None:
        """Adds the run and the digest of the version."""
        if not self.version:
            return
        found = self.before(lambda: self.client.get_model_version(self.name, self.version))
        self.fields["ml.training.run_id"] = getattr(found, "run_id", None) or ""
        last = ArtifactRegister(self.pipeline.settings.state_dir).last(version_path(self.name, self.version))
        if last is not None:
            self.fields["ml.model.digest"] = last.digest

    def ended(self, outcome: Outcome) -> None:
        """Records it."""
        fields = {"ml.model.name": self.name, "ml.model.version": self.version, **self.fields}
        if outcome.error is not None:
            fields |= error_fields(outcome.error)
        target = Target("model", f"{self.name}@{self.version}" if self.version else self.name)
        present = {name: value for name, value in fields.items() if value not in ("", None)}
        event = AuditEvent(self._kind, outcome.outcome, target=target, fields=present)
        event.actor = actor()
        self.pipeline.emit(originate(event))


def version_path(name: str, version: str) -> str:
    """Under which path the register of artifacts keeps a version of the registry."""
    return f"models:/{name}/{version}"
