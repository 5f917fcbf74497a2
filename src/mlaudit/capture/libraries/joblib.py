"""joblib (1.3 and later): ``joblib.dump`` of models and ``joblib.load``.

Only the two names that people call are hooked, ``joblib.dump`` and ``joblib.load``. joblib's own cache and the
transport to its workers use other names and stay silent. Every ``load`` is recorded, whatever the file holds,
because loading runs what is in the file: the record is made, and durable, before the first byte is unpickled.
"""

from __future__ import annotations

import functools
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit import pipeline
from mlaudit.capture import retraining
from mlaudit.capture.libraries import artifacts, known, parallel
from mlaudit.capture.libraries.artifacts import Artifact
from mlaudit.capture.libraries.estimators import parameters
from mlaudit.capture.libraries.training import error_fields, model_fields
from mlaudit.capture.origin import originate
from mlaudit.capture.registry import UNREGISTERED, ArtifactRegister, Entry, Registered
from mlaudit.errors import AuditRefusedError
from mlaudit.event import FAILURE, SUCCESS, AuditEvent, Target

if TYPE_CHECKING:
    from collections.abc import Callable

SAVED: Final = "audit.ml.model.saved"
LOADED: Final = "audit.ml.model.loaded"
COMPONENT: Final = "capture.libraries.joblib"

_originals: dict[str, Callable[..., Any]] = {}


class JoblibIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "joblib"
    module: ClassVar[str] = "joblib"

    def instrument(self) -> None:
        """Hooks ``joblib.dump`` and ``joblib.load``, and carries the audit context into joblib's workers."""
        import joblib

        if _originals:
            return
        _originals.update(dump=joblib.dump, load=joblib.load)
        joblib.dump = _hooked(joblib.dump, _dump)
        joblib.load = _hooked(joblib.load, _load)
        parallel.install(self.name)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        import joblib

        parallel.remove(self.name)
        for name, original in _originals.items():
            setattr(joblib, name, original)
        _originals.clear()


def is_instrumented() -> bool:
    """Whether the hooks are set."""
    return bool(_originals)


def _hooked(original: Callable[..., Any], audit: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        current = pipeline.current()
        if current is None:
            return original(*args, **kwargs)
        return audit(current, original, args, kwargs)

    # So that a reference to it pickles: joblib.numpy_pickle still holds the original under its name.
    wrapper.__module__ = "joblib"
    return wrapper


def _dump(
    current: pipeline.Pipeline, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    value = args[0] if args else kwargs.get("value")
    target = args[1] if len(args) > 1 else kwargs.get("filename")
    try:
        models = known.models_in(value)
        place = _place(target)
        name = _saved_name(models, target)
    except Exception as error:  # noqa: BLE001 - foreign objects
        current.fault(COMPONENT, error)
        return original(*args, **kwargs)
    if not models:
        return original(*args, **kwargs)
    # 1. Nothing is written that could not be recorded, when the policy says so.
    if current.decide(SAVED, model=name).on_failure == "refuse" and not current.writable():
        current.refuse(SAVED)
        raise AuditRefusedError(
            f"{SAVED}: the policy wants a record of saving {name}, and none can be stored now"
        )
    try:
        result = original(*args, **kwargs)
    except Exception as error:
        _contain(current, SAVED, FAILURE, functools.partial(_not_saved, current, models, name, target, error))
        raise
    # 2. What was written is read back: the digest is of the file, not of what should be in it.
    _contain(current, SAVED, SUCCESS, functools.partial(_saved, current, models, name, target, place))
    return result


def _saved(current: pipeline.Pipeline, models: list[Any], name: str, target: Any, begin: int) -> None:
    on_disk = isinstance(target, str | os.PathLike)
    artifact = artifacts.read(target) if on_disk else artifacts.read_back(target, begin)
    run_id = known.about(models[0]).run_id
    registered = Registered("", None)
    if artifact.digest and on_disk:
        try:
            register = ArtifactRegister(current.settings.state_dir)
            registered = register.save(artifact.path, name, artifact.digest, run_id)
        except Exception as error:  # noqa: BLE001 - unregistered is worse than registered, better than unrecorded
            current.fault(COMPONENT, error)
    version = registered.version
    for model in models:
        about = known.about(model)
        known.know(
            model,
            replace(
                about, name=about.name or name, version=version, digest=artifact.digest, path=artifact.path
            ),
        )
    fields = {
        **model_fields(models[0], name, known.NOTHING),
        **_artifact_fields(artifact),
        "ml.model.version": version,
        "ml.training.run_id": run_id,
    }
    found = parameters(models[0])
    if found:
        fields["ml.model.parameters"] = found
    _emit(current, SAVED, SUCCESS, name, version, fields)
    retraining.notice(current, known.about(models[0]), registered.previous, model=models[0])


def _not_saved(
    current: pipeline.Pipeline, models: list[Any], name: str, target: Any, error: Exception
) -> None:
    fields = {
        **model_fields(models[0], name, known.NOTHING),
        "ml.model.path": _path(target),
        **error_fields(error),
    }
    _emit(current, SAVED, FAILURE, name, "", fields)


def _load(
    current: pipeline.Pipeline, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    source = args[0] if args else kwargs.get("filename")
    about: known.Known | None = None
    artifact = Artifact("", "")
    try:
        artifact = artifacts.read(source)
        # 1. Compared with the register, 2. recorded, 3. only then unpickled.
        about = _loading(current, artifact)
    except AuditRefusedError:
        raise
    except OSError as error:
        # The load below will say the same to its caller.
        _contain(current, LOADED, FAILURE, functools.partial(_not_loaded, current, source, error))
    except Exception as error:  # noqa: BLE001 - auditing never breaks the service
        current.fault(COMPONENT, error, kind=LOADED, fields={"ml.model.path": _path(source)})
    try:
        value = original(*args, **kwargs)
    except Exception as error:
        if about is not None:
            _contain(current, LOADED, FAILURE, functools.partial(_not_loaded, current, source, error))
        raise
    if about is not None:
        _contain(current, LOADED, SUCCESS, functools.partial(_loaded, current, artifact, about, value))
    return value


def _loading(current: pipeline.Pipeline, artifact: Artifact) -> known.Known:
    entry = _lookup(current, artifact)
    fields = {
        "ml.model.name": artifact.name,
        "ml.model.class": artifact.cls,
        "ml.model.version": entry.version,
        "ml.model.registration": entry.status,
        "ml.model.registered_digest": entry.digest,
        **_artifact_fields(artifact),
    }
    _emit(current, LOADED, SUCCESS, artifact.name, entry.version, fields)
    return known.Known(artifact.name, entry.version, artifact.digest, artifact.path, entry.run_id)


def _lookup(current: pipeline.Pipeline, artifact: Artifact) -> Entry:
    """The policy's register, else the local one."""
    if not artifact.digest:
        return Entry(UNREGISTERED)
    found = current.policy.models.lookup(artifact.digest, name=artifact.name, path=artifact.path)
    try:
        local = ArtifactRegister(current.settings.state_dir).lookup(artifact.path, artifact.digest)
    except (OSError, ValueError) as error:
        current.fault(COMPONENT, error)
        local = Entry(UNREGISTERED)
    if found.status == UNREGISTERED:
        return local
    return Entry(found.status, found.digest, local.version, local.run_id)


def _loaded(current: pipeline.Pipeline, artifact: Artifact, about: known.Known, value: Any) -> None:
    models = known.models_in(value)
    for model in models:
        known.loaded(model, about)
    if not artifacts.unchanged(artifact):
        fields = {
            "ml.model.name": about.name,
            "ml.model.path": artifact.path,
            "ml.model.digest": artifact.digest,
            "event.reason": "the file changed while it was loaded: what was loaded may not be what was digested",
        }
        _emit(current, LOADED, "unknown", about.name, about.version, fields)


def _not_loaded(current: pipeline.Pipeline, source: Any, error: Exception) -> None:
    path = _path(source)
    name = artifacts.name_of(path)
    _emit(
        current,
        LOADED,
        FAILURE,
        name,
        "",
        {"ml.model.name": name, "ml.model.path": path, **error_fields(error)},
    )


def _artifact_fields(artifact: Artifact) -> dict[str, Any]:
    fields: dict[str, Any] = {"ml.model.path": artifact.path, "ml.model.digest": artifact.digest}
    if artifact.size >= 0:
        fields["labels"] = {"bytes": str(artifact.size)}
    return fields


def _emit(
    current: pipeline.Pipeline, kind: str, outcome: str, name: str, version: str, fields: dict[str, Any]
) -> None:
    target = Target("model", f"{name}@{version}" if version else name)
    present = {key: value for key, value in fields.items() if value != ""}
    current.emit(originate(AuditEvent(kind, outcome, target=target, fields=present)))


def _contain(current: pipeline.Pipeline, kind: str, outcome: str, tell: Callable[[], None]) -> None:
    try:
        tell()
    except AuditRefusedError:
        # The file is written or read already. The pipeline has counted it and says so when it can write again.
        return
    except Exception as error:  # noqa: BLE001 - auditing never breaks the service
        current.fault(COMPONENT, error, kind=kind, outcome=outcome)


def _saved_name(models: list[Any], target: Any) -> str:
    own = known.about(models[0]).name if models else ""
    return own or artifacts.name_of(_path(target))


def _path(source: Any) -> str:
    if isinstance(source, str | os.PathLike):
        return os.path.abspath(os.fsdecode(source))  # noqa: PTH100
    return artifacts.where(source)


def _place(target: Any) -> int:
    """Where in an open file the dump begins; -1 when it cannot be told."""
    tell = getattr(target, "tell", None)
    if tell is None:
        return -1
    try:
        return int(tell())
    except (OSError, ValueError, TypeError):
        return -1
