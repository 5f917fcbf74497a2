"""Models that MLflow reads: recorded, with the digest of their folder, before anything of them runs."""

from __future__ import annotations

import os
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mlaudit.capture.hooks import refuse_unless_writable
from mlaudit.capture.libraries.mlflow.record import emit, fields_of, flavors
from mlaudit.capture.libraries.mlflow.registry_change import version_path
from mlaudit.capture.libraries.mlflow.state import IGNORED, MLMODEL, REGISTERED, place_of
from mlaudit.capture.models import artifact_files, known_models
from mlaudit.capture.models.artifact_register import UNREGISTERED, ArtifactRegister, Entry
from mlaudit.capture.models.known_models import Known
from mlaudit.capture.nesting import part_of_artifact
from mlaudit.catalog.names import ML_MODEL_LOADED
from mlaudit.errors import AuditRefusedError
from mlaudit.safety.regular import open_regular

if TYPE_CHECKING:
    from mlaudit.capture.hooks import Audit, Call
    from mlaudit.pipeline.pipeline import Pipeline

MAX_META: Final = 1 << 16


@dataclass(slots=True)
class _Loading:
    """A model while ``load_model`` reads it; ``about`` is set once that is recorded."""

    source: str
    about: Known | None = None


_loading: Final[ContextVar[_Loading | None]] = ContextVar("mlaudit_mlflow_loading", default=None)


def load(pipeline: Pipeline, call: Call) -> Audit:
    """The audit of ``load_model`` of any flavour."""
    source = str(call.argument(0, "model_uri"))
    refuse_unless_writable(pipeline, ML_MODEL_LOADED, f"loading {place_of(source)}")
    under_way = _Loading(source)
    token, part = _loading.set(under_way), part_of_artifact.set(True)
    try:
        outcome = yield
    finally:
        _loading.reset(token)
        part_of_artifact.reset(part)
    if isinstance(outcome.error, AuditRefusedError):
        return
    if outcome.error is not None:
        about = under_way.about or Known(artifact_files.name_of(source), path=place_of(source))
        emit(pipeline, ML_MODEL_LOADED, outcome, about, fields_of(about))
        return
    if under_way.about is None:
        # A flavour that reads its folder by ways of its own.
        under_way.about = named(source, "")
        fields = {**fields_of(under_way.about), "ml.model.registration": UNREGISTERED}
        emit(pipeline, ML_MODEL_LOADED, outcome, under_way.about, fields)
    model = outcome.result
    inner = getattr(model, "_model_impl", None)
    for part in known_models.models_in(inner) if inner is not None else ():
        known_models.remember(part, replace(under_way.about, loaded=True))
    known_models.loaded(model, under_way.about)


def is_loading(_: Call) -> bool:
    """Whether a model is being loaded and that is not recorded yet."""
    under_way = _loading.get()
    return under_way is not None and under_way.about is None


def read(pipeline: Pipeline, call: Call) -> Audit:
    """Every flavour reads the description in the model's folder first, before anything that may run."""
    outcome = yield
    under_way = _loading.get()
    path = os.fspath(call.argument(0, "path"))
    folder = path if os.path.isdir(path) else os.path.dirname(path)  # noqa: PTH112, PTH120
    if outcome.error is not None or under_way is None or not _is_whole(folder):
        return
    artifact = artifact_files.read(folder, IGNORED)
    run_id = str(getattr(outcome.result, "run_id", None) or "")
    about = _fetched(under_way.source, folder, run_id) or named(under_way.source, run_id)
    about = replace(about, digest=artifact.digest)
    entry = _lookup(pipeline, about, artifact.path)
    under_way.about = about
    fields = {
        **fields_of(about),
        "ml.model.registration": entry.status,
        "ml.model.registered_digest": entry.digest,
        "ml.registry.name": "mlflow" if about.version else "",
        "ml.registry.alias": _alias(under_way.source) if about.version else "",
        "labels": {"bytes": str(artifact.size), **flavors(outcome.result)},
    }
    emit(pipeline, ML_MODEL_LOADED, outcome, about, fields)


def _fetched(source: str, folder: str, run_id: str) -> Known | None:
    """What MLflow wrote beside a model that it fetched from the registry: an alias may point elsewhere by now."""
    path = os.path.join(folder, REGISTERED)  # noqa: PTH118
    if not source.startswith("models:") or not os.path.isfile(path):  # noqa: PTH113
        return None
    from mlaudit.safety.strict_yaml import parse_foreign

    with open_regular(path) as file:
        found = parse_foreign(file.read(MAX_META))
    name, version = found.get("model_name"), found.get("model_version")
    if not name or not version:
        return None
    return Known(str(name), str(version), "", version_path(str(name), str(version)), run_id)


def _alias(source: str) -> str:
    """The alias or the stage that a model address names."""
    last = source.rstrip("/").rpartition("/")[2]
    if "@" in last:
        return last.partition("@")[2]
    return "" if last.isdigit() or last.lower() == "latest" else last


def _is_whole(folder: str) -> bool:
    """Whether the whole model was fetched, not only its description."""
    return any(name not in (MLMODEL, *IGNORED) for name in os.listdir(folder))  # noqa: PTH208


def named(source: str, run_id: str) -> Known:
    """The model that a model address names: name and version in the registry, else its last part."""
    from mlflow.tracking.client import MlflowClient

    place = place_of(source)
    if source.startswith("models:"):
        from mlflow.store.artifact.utils.models import get_model_name_and_version

        client = MlflowClient()
        try:
            found = get_model_name_and_version(client, source)
            if len(found) == 2:
                return Known(found[0], str(found[1]), "", version_path(*found), run_id)
            return Known(str(client.get_logged_model(found[0]).name), "", "", f"models:/{found[0]}", run_id)
        except Exception:  # noqa: BLE001 - a registry that does not answer: the load itself will fail
            return Known(source.partition("/")[2].lstrip("/").partition("/")[0], path=place, run_id=run_id)
    return Known(artifact_files.name_of(place.rstrip("/")) or "model", path=place, run_id=run_id)


def _lookup(pipeline: Pipeline, about: Known, folder: str) -> Entry:
    """The policy's register, else the local one: as this version, as this folder, else by content."""
    found = pipeline.policy.models.lookup(about.digest, name=about.name, path=about.path)
    if found.status != UNREGISTERED:
        return Entry(found.status, found.digest)
    register = ArtifactRegister(pipeline.settings.state_dir)
    path = about.path if register.last(about.path) is not None else folder
    return register.lookup(path, about.digest)
