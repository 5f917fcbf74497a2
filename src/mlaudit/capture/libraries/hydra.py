"""Hydra (1.3 and later): every job of ``hydra.main`` is a run with its composed configuration.

Every job calls ``run_job``: alone, in a sweep, and in a launcher's worker. What is trained inside is a
child of the run. A configuration that is not that of the job's last run is a change of configuration; the jobs of a
sweep differ by intent and are not compared. Interpolations stay as they are written: ``${oc.env:PASSWORD}`` is not
looked up.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.hooks import Hooks
from mlaudit.capture.models.estimators import text
from mlaudit.capture.models.training_run import training_run
from mlaudit.capture.process.config_loaded import Loaded, compare, flatten
from mlaudit.capture.request_context import current_run
from mlaudit.catalog.names import ML_CONFIG_CHANGED, ML_TRAINING_STARTED
from mlaudit.errors import AuditRefusedError

if TYPE_CHECKING:
    from mlaudit.capture.hooks import Audit, Call
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.hydra"
SOURCE: Final = "hydra"
MAX_PARAMETERS: Final = 200
MAX_OVERRIDES: Final = 100
# A module that imported the function by name keeps its own reference.
_HOLDERS: Final = ("hydra.core.utils", "hydra._internal.hydra", "hydra._internal.core_plugins.basic_launcher")

_hooks: Final = Hooks(COMPONENT)


class HydraIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "hydra"
    module: ClassVar[str] = "hydra"

    def instrument(self) -> None:
        """Hooks the running of a job and ``hydra.compose``."""
        import hydra

        if _hooks.are_set:
            return
        for holder in _HOLDERS:
            _hooks.when_imported(holder, _hook_jobs)
        _hooks.around(hydra, "compose", _composing, kind=ML_CONFIG_CHANGED)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        _hooks.undo()


def _hook_jobs(module: Any) -> None:
    _hooks.around(module, "run_job", _running, kind=ML_TRAINING_STARTED)


def _running(pipeline: Pipeline, call: Call) -> Audit:
    from omegaconf import OmegaConf

    config = call.argument(1, "config")

    def about(key: str) -> Any:
        return OmegaConf.select(config, f"hydra.{key}", throw_on_missing=False)

    job = str(about("job.name") or "job")
    composed = Loaded(SOURCE, f"{job}/{about('job.config_name') or '-'}", _values(config))
    if about("job.num") is None:
        _record_change(pipeline, composed)
    run = training_run(job, parameters=_parameters(composed, about("overrides.task")))
    outer = current_run.get()
    run.__enter__()  # refuses, where the policy wants a record of each run and none can be stored
    try:
        outcome = yield
        error = outcome.error or _failure(outcome.result)
        run.__exit__(None if error is None else type(error), error, None)
    finally:
        # Also if the end of the job is not reported: later records do not belong to its run.
        current_run.set(outer)


def _composing(pipeline: Pipeline, call: Call) -> Audit:
    outcome = yield
    if outcome.error is not None:
        return
    name = str(call.argument(0, "config_name") or "-")
    composed = Loaded(SOURCE, f"compose/{name}", _values(outcome.result))
    _record_change(pipeline, composed)
    run = current_run.get()
    if run is not None:
        run.parameters.update(_parameters(composed, call.argument(1, "overrides")))


def _record_change(pipeline: Pipeline, composed: Loaded) -> None:
    try:
        compare(pipeline, composed)
    except AuditRefusedError:
        raise
    except Exception as error:  # noqa: BLE001 - the run is recorded all the same
        pipeline.fault(COMPONENT, error, kind=ML_CONFIG_CHANGED)


def _values(config: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    content = OmegaConf.to_container(config, resolve=False, throw_on_missing=False)
    values: dict[str, Any] = {}
    if isinstance(content, Mapping):
        flatten({key: value for key, value in content.items() if key != "hydra"}, "", values)
    return {key: value if _is_plain(value) else str(value) for key, value in values.items()}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _parameters(composed: Loaded, overrides: Any) -> dict[str, Any]:
    """What a run's record shows of a configuration: its values, what was overridden, and a digest of what is shown."""
    shown = {
        key: composed.text(key) if composed.hides(key) else text(value)
        for key, value in list(composed.values.items())[:MAX_PARAMETERS]
    }
    raw = json.dumps(shown, sort_keys=True, default=str)
    found = {**shown, "hydra.config": composed.name, "hydra.digest": hashlib.sha256(raw.encode()).hexdigest()}
    if overrides:
        listed = [_override(str(one), composed) for one in list(overrides)[:MAX_OVERRIDES]]
        found["hydra.overrides"] = ", ".join(listed)
    return found


def _override(given: str, composed: Loaded) -> str:
    key, equals, _ = given.partition("=")
    name = key.lstrip("+~")
    return f"{key}={composed.text(name)}" if equals and composed.hides(name) else given


def _failure(result: Any) -> BaseException | None:
    """The error of a job, which Hydra keeps until the result is read."""
    kept = getattr(result, "_return_value", None)
    return kept if isinstance(kept, BaseException) else None
