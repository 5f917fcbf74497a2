"""Records of model files: saved with the digest of what was written, loaded with the digest of what is there.

Both are the halves of an audit (see ``hooks``), for ``yield from``; a part of an artifact has no record of its own.
What is loaded is digested, compared with the register and recorded before the library reads the first byte: loading
may run what is in the file.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlaudit.capture.hooks import Audit, refuse_unless_writable
from mlaudit.capture.models import artifact_files, known_models, retraining
from mlaudit.capture.models.artifact_files import Artifact
from mlaudit.capture.models.artifact_register import UNREGISTERED, ArtifactRegister, Entry, Registered
from mlaudit.capture.models.estimator_runs import class_fields, error_fields
from mlaudit.capture.models.estimators import parameters
from mlaudit.capture.nesting import part_of_artifact
from mlaudit.capture.origin import originate
from mlaudit.capture.process.deserialization import current_file
from mlaudit.capture.request_context import current_run
from mlaudit.catalog.names import ML_MODEL_LOADED, ML_MODEL_SAVED
from mlaudit.errors import AuditRefusedError
from mlaudit.event import FAILURE, SUCCESS, UNKNOWN, AuditEvent, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlaudit.pipeline.pipeline import Pipeline


def saving(
    pipeline: Pipeline,
    component: str,
    models: list[Any],
    target: Any,
    *,
    labels: dict[str, str] | None = None,
    cls: type | None = None,
    name: str = "",
) -> Audit:
    """The audit of a call that writes ``models`` into ``target``, a path or an open file.

    Args:
        pipeline: of this process.
        component: names the integration in records of faults.
        models: what is saved, at least one; the first one names it.
        target: where to; a folder is one artifact.
        labels: more labels of the file.
        cls: the class of model that it is, where that of the first of ``models`` does not say so.
        name: what it is called where nothing is known of it; else the file's name.

    A model that nothing is known of is taken for one of the run under way, e.g. a checkpoint.

    Raises:
        AuditRefusedError: it could not be recorded and the policy says refuse; nothing was written.
    """
    if part_of_artifact.get():
        return
    place = _place(target)
    run = current_run.get()
    given = known_models.lookup(models[0]).name or ("" if run is None else run.name)
    name = given or name or artifact_files.name_of(path_of(target))
    described = class_fields(cls or type(models[0]), name)
    # 1. Nothing is written that could not be recorded, when the policy says so.
    refuse_unless_writable(pipeline, ML_MODEL_SAVED, f"saving {name}", model=name)
    outcome = yield
    if outcome.error is not None:
        fields = {
            **described,
            "ml.model.path": path_of(target),
            **error_fields(outcome.error),
        }
        _emit(pipeline, ML_MODEL_SAVED, FAILURE, name, "", fields)
        return
    # 2. What was written is read back: the digest is of the file, not of what should be in it.
    on_disk = isinstance(target, str | os.PathLike)
    artifact = artifact_files.read(target) if on_disk else artifact_files.read_back(target, place)
    run_id = known_models.lookup(models[0]).run_id or ("" if run is None else run.run_id)
    registered = Registered("", None)
    if artifact.digest and on_disk:
        try:
            register = ArtifactRegister(pipeline.settings.state_dir)
            registered = register.save(artifact.path, name, artifact.digest, run_id)
        except Exception as error:  # noqa: BLE001 - unregistered is worse than registered, better than unrecorded
            pipeline.fault(component, error)
    for model in models:
        about = known_models.lookup(model)
        known_models.remember(
            model,
            replace(
                about,
                name=about.name or name,
                version=registered.version,
                digest=artifact.digest,
                path=artifact.path,
            ),
        )
    fields = {
        **described,
        **_artifact_fields(artifact, labels),
        "ml.model.version": registered.version,
        "ml.training.run_id": run_id,
    }
    found = parameters(models[0])
    if found:
        fields["ml.model.parameters"] = found
    _emit(pipeline, ML_MODEL_SAVED, SUCCESS, name, registered.version, fields)
    retraining.notice(pipeline, known_models.lookup(models[0]), registered.previous, model=models[0])


def loading(
    pipeline: Pipeline,
    component: str,
    source: Any,
    *,
    models: Callable[[Any], list[Any]] = known_models.models_in,
    cls: str = "",
    labels: dict[str, str] | None = None,
) -> Audit:
    """The audit of a call that reads a model from ``source``, a path or an open file.

    Args:
        pipeline: of this process.
        component: names the integration in records of faults.
        source: where from; a folder is one artifact.
        models: finds the models in what the call returned.
        cls: the class that is loaded, where the file does not say.
        labels: more labels of the loading.

    Raises:
        AuditRefusedError: it cannot be recorded and the policy says refuse; nothing was loaded.
    """
    if part_of_artifact.get():
        return
    about = known_models.NOTHING
    artifact = Artifact("", "")
    path = path_of(source)
    reading = current_file.get()
    if reading and (path == reading or path.startswith(reading + os.sep)):
        # One library reads a file for another one, which has recorded it.
        yield
        return
    try:
        artifact = artifact_files.read(source)
        # 1. Compared with the register, 2. recorded, 3. only then read by the library.
        about = _loading(pipeline, component, artifact, cls, labels)
    except AuditRefusedError:
        raise
    except OSError as error:
        # The library raises the same error to its caller.
        _not_loaded(pipeline, source, error)
    except Exception as error:  # noqa: BLE001 - auditing never breaks the service
        pipeline.fault(component, error, kind=ML_MODEL_LOADED, fields={"ml.model.path": path_of(source)})
    # What the library's unpickler looks up is recorded with the file.
    token = current_file.set(artifact.path or path_of(source))
    try:
        outcome = yield
    finally:
        current_file.reset(token)
    if about is known_models.NOTHING:
        return
    if outcome.error is not None:
        _not_loaded(pipeline, source, outcome.error)
        return
    for model in models(outcome.result):
        known_models.loaded(model, about)
    if not artifact_files.unchanged(artifact):
        fields = {
            "ml.model.name": about.name,
            "ml.model.path": artifact.path,
            "ml.model.digest": artifact.digest,
            "event.reason": "the file changed while it was loaded: what was loaded may not be what was digested",
        }
        _emit(pipeline, ML_MODEL_LOADED, UNKNOWN, about.name, about.version, fields)


def path_of(source: Any) -> str:
    """The absolute path of a path or an open file; in brackets what it is where it has none."""
    if isinstance(source, str | os.PathLike):
        return os.path.abspath(os.fsdecode(source))  # noqa: PTH100 - as written: a link's name is its name
    return artifact_files.where(source)


def _loading(
    pipeline: Pipeline, component: str, artifact: Artifact, cls: str, labels: dict[str, str] | None
) -> known_models.Known:
    entry = _lookup(pipeline, component, artifact)
    fields = {
        "ml.model.name": artifact.name,
        "ml.model.class": artifact.cls or cls,
        "ml.model.version": entry.version,
        "ml.model.registration": entry.status,
        "ml.model.registered_digest": entry.digest,
        **_artifact_fields(artifact, labels),
    }
    _emit(pipeline, ML_MODEL_LOADED, SUCCESS, artifact.name, entry.version, fields)
    return known_models.Known(artifact.name, entry.version, artifact.digest, artifact.path, entry.run_id)


def _lookup(pipeline: Pipeline, component: str, artifact: Artifact) -> Entry:
    """The policy's register, else the local one."""
    if not artifact.digest:
        return Entry(UNREGISTERED)
    found = pipeline.policy.models.lookup(artifact.digest, name=artifact.name, path=artifact.path)
    try:
        local = ArtifactRegister(pipeline.settings.state_dir).lookup(artifact.path, artifact.digest)
    except (OSError, ValueError) as error:
        pipeline.fault(component, error)
        local = Entry(UNREGISTERED)
    if found.status == UNREGISTERED:
        return local
    return Entry(found.status, found.digest, local.version, local.run_id)


def _not_loaded(pipeline: Pipeline, source: Any, error: BaseException) -> None:
    path = path_of(source)
    name = artifact_files.name_of(path)
    fields = {"ml.model.name": name, "ml.model.path": path, **error_fields(error)}
    try:
        _emit(pipeline, ML_MODEL_LOADED, FAILURE, name, "", fields)
    except AuditRefusedError:
        # Nothing was loaded. The pipeline has counted the loss and reports it when it can write again.
        return


def _artifact_fields(artifact: Artifact, labels: dict[str, str] | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"ml.model.path": artifact.path, "ml.model.digest": artifact.digest}
    texts = dict(labels or {})
    if artifact.size >= 0:
        texts["bytes"] = str(artifact.size)
    if texts:
        fields["labels"] = texts
    return fields


def _emit(
    pipeline: Pipeline, kind: str, outcome: str, name: str, version: str, fields: dict[str, Any]
) -> None:
    target = Target("model", f"{name}@{version}" if version else name)
    present = {key: value for key, value in fields.items() if value != ""}
    pipeline.emit(originate(AuditEvent(kind, outcome, target=target, fields=present)))


def _place(target: Any) -> int:
    """Where in an open file the dump begins; -1 when unknown."""
    tell = getattr(target, "tell", None)
    if tell is None:
        return -1
    try:
        return int(tell())
    except (OSError, ValueError, TypeError):
        return -1
