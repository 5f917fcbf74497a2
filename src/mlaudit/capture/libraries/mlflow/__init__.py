"""MLflow (2.12 to 3): runs, the model registry, models logged, loaded, evaluated and used.

What other processes do through a tracking server is not seen: only what this process does, over whatever store.
"""

from __future__ import annotations

from typing import ClassVar, Final

from mlaudit.capture.hooks import Hooks
from mlaudit.capture.libraries.mlflow import evaluation, models, registry_hooks, run_hooks, tags
from mlaudit.capture.libraries.mlflow.state import COMPONENT

_hooks: Final = Hooks(COMPONENT)


class MlflowIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "mlflow"
    module: ClassVar[str] = "mlflow"

    def instrument(self) -> None:
        """Hooks the client, on which everything else is built, and the functions that set the current run."""
        if _hooks.are_set:
            return
        import mlflow

        try:
            from mlflow.tracking.client import MlflowClient
        except ImportError:
            # ``mlflow-tracing`` alone has no runs and no registry.
            return
        run_hooks.hook(_hooks, mlflow, MlflowClient)
        registry_hooks.hook(_hooks, MlflowClient)
        tags.hook(_hooks, MlflowClient)
        models.hook(_hooks, MlflowClient)
        evaluation.hook(_hooks, mlflow)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        _hooks.undo()
