"""PyTorch (2.3 and later): ``torch.save`` of models and ``torch.load``.

A training loop of PyTorch has no interface for its begin and end: ``mlaudit.training_run`` declares them.
Files of Lightning, transformers and anything else that is built on PyTorch pass through here too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.data.digest import FULL_BYTES, digest
from mlaudit.capture.hooks import Audit, Call, Hooks
from mlaudit.capture.models import known_models
from mlaudit.capture.models.artifact_records import loading, saving
from mlaudit.capture.models.call_runs import described
from mlaudit.catalog.names import ML_MODEL_LOADED, ML_MODEL_SAVED

if TYPE_CHECKING:
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.torch"
_FIRST_STRICT: Final = (2, 6)
_hooks: Final = Hooks(COMPONENT)


class TorchIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "torch"
    module: ClassVar[str] = "torch"

    def instrument(self) -> None:
        """Hooks ``torch.save`` and ``torch.load``."""
        import torch

        _hooks.around(torch, "save", _save, kind=ML_MODEL_SAVED, when=_is_file)
        _hooks.around(torch, "load", _load, kind=ML_MODEL_LOADED)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        _hooks.undo()


def _is_file(call: Call) -> bool:
    # A buffer is on its way to somewhere: to a file that another library writes, or to another process.
    target = call.argument(1, "f")
    return isinstance(target, str | os.PathLike) or bool(getattr(target, "name", ""))


def _save(pipeline: Pipeline, call: Call) -> Audit:
    import torch

    value = call.argument(0, "obj")
    models, states = weights_in(value)
    if not models and not states:
        return  # tensors, optimizers, data
    labels = {"content": "module" if models else "state_dict"}
    if states:
        labels |= described(pipeline, COMPONENT, lambda: {"state.digest": state_digest(states[0])})
        labels = {name: text for name, text in labels.items() if text}
    cls = None if models else torch.nn.Module
    yield from saving(pipeline, COMPONENT, models or [value], call.argument(1, "f"), cls=cls, labels=labels)


def _load(pipeline: Pipeline, call: Call) -> Audit:
    labels = {"weights_only": weights_only(call.kwargs.get("weights_only"))}
    yield from loading(pipeline, COMPONENT, call.argument(0, "f"), models=_loaded, labels=labels)


def _loaded(value: Any) -> list[Any]:
    models, states = weights_in(value)
    # A plain dict cannot be remembered, an ordered one can.
    return [*models, *states] or known_models.models_in(value)


def weights_in(value: Any) -> tuple[list[Any], list[Mapping[str, Any]]]:
    """The modules and the state dicts in ``value``: itself, or what a checkpoint holds at its top level."""
    import torch

    candidates = [value]
    if isinstance(value, Mapping) and not _is_state(torch, value):
        candidates = list(value.values())[: known_models.MAX_CONTAINED]
    elif isinstance(value, list | tuple):
        candidates = list(value[: known_models.MAX_CONTAINED])
    models = [one for one in candidates if isinstance(one, torch.nn.Module)]
    return models, [one for one in candidates if _is_state(torch, one)]


def _is_state(torch: Any, value: Any) -> bool:
    if not isinstance(value, Mapping) or not value:
        return False
    # What Module.state_dict makes says so; else it is a dict of tensors by dotted names.
    return hasattr(value, "_metadata") or all(
        isinstance(name, str) and "." in name and isinstance(part, torch.Tensor)
        for name, part in value.items()
    )


def state_digest(state: Mapping[str, Any]) -> str:
    """The digest of weights by name, whatever file they are in; "" beyond ``FULL_BYTES``."""
    tensors = {str(name): part for name, part in state.items() if hasattr(part, "detach")}
    if sum(part.numel() * part.element_size() for part in tensors.values()) > FULL_BYTES:
        return ""
    return digest(tensors)


def weights_only(given: bool | None) -> str:
    """Whether ``torch.load`` runs nothing of the file but what rebuilds tensors: ``true`` or ``false``."""
    # As torch.serialization decides it.
    if os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "").lower() in ("1", "y", "yes", "true"):
        return "true"
    if given is None:
        free = os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "").lower() in ("1", "y", "yes", "true")
        version = str(getattr(sys.modules.get("torch"), "__version__", "0.0")).split(".")
        return str(not free and tuple(int(part) for part in version[:2]) >= _FIRST_STRICT).lower()
    return str(bool(given)).lower()


def loader_fields(loader: Any) -> dict[str, Any]:
    """``ml.dataset.*`` of a data loader or data set: digests where it is made of tensors, else its rows."""
    from mlaudit.capture.models.estimator_runs import dataset_fields

    if isinstance(loader, list | tuple) and len(loader) == 1:
        loader = loader[0]
    source = getattr(loader, "dataset", loader)
    tensors = getattr(source, "tensors", None)
    if isinstance(tensors, tuple) and tensors:
        return dataset_fields(tensors[0], tensors[1] if len(tensors) > 1 else None)
    fingerprint = getattr(source, "_fingerprint", None)
    fields: dict[str, Any] = {"ml.dataset.name": "" if source is None else type(source).__name__}
    if isinstance(fingerprint, str):
        # Hugging Face's data sets: their own digest of how they came to be.
        fields["ml.dataset.digest"] = f"datasets:{fingerprint}"
    if hasattr(source, "__len__"):
        fields["ml.dataset.rows"] = len(source)
    return fields
