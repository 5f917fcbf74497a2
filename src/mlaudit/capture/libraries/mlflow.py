"""MLflow (2.9 to 3): runs, the model registry, models written, read, asked and evaluated.

What other processes do through a tracking server is not seen: only what this process does, over whatever store.
"""

from __future__ import annotations

from typing import ClassVar, Final

from mlaudit.capture.libraries import (
    mlflow_evaluation,
    mlflow_models,
    mlflow_registry,
    mlflow_runs,
    mlflow_tags,
)
from mlaudit.capture.libraries.hooks import Hooks
from mlaudit.capture.libraries.mlflow_state import COMPONENT

_hooks: Final = Hooks(COMPONENT)


class MlflowIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "mlflow"
    module: ClassVar[str] = "mlflow"

    def instrument(self) -> None:
        """Hooks the client, on which everything else stands, and the functions that say what is under way."""
        if _hooks.are_set:
            return
        import mlflow

        try:
            from mlflow.tracking.client import MlflowClient
        except ImportError:
            # ``mlflow-tracing`` alone has no runs and no registry.
            return
        mlflow_runs.hook(_hooks, mlflow, MlflowClient)
        mlflow_registry.hook(_hooks, MlflowClient)
        mlflow_tags.hook(_hooks, MlflowClient)
        mlflow_models.hook(_hooks, MlflowClient)
        mlflow_evaluation.hook(_hooks, mlflow)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        _hooks.undo()
