"""MLflow's model registry: what any ``MlflowClient`` of this process does to models, versions, aliases and tags.

The fluent functions call the client, so each change is recorded once. The previous state is queried from the registry
first; what cannot be queried is left out. Changes that other processes make through the server or its page are not
seen.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlaudit.capture.libraries.mlflow.registry_change import Change, version_path
from mlaudit.capture.libraries.mlflow.run_hooks import known_run
from mlaudit.capture.libraries.mlflow.state import IGNORED, logging_model, place_of
from mlaudit.capture.models import artifact_files, retraining
from mlaudit.capture.models.artifact_register import ArtifactRegister, Previous
from mlaudit.capture.models.known_models import Known
from mlaudit.capture.models.known_models import lookup as known_of
from mlaudit.catalog.names import ML_MODEL_DELETED, ML_MODEL_PROMOTED, ML_MODEL_REGISTERED

if TYPE_CHECKING:
    from mlaudit.capture.hooks import Audit, Call, Hooks, Outcome
    from mlaudit.pipeline.pipeline import Pipeline

_EXISTS: Final = ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS")
_NO_STAGE: Final = "None"


def hook(hooks: Hooks, client: Any) -> None:
    """Sets the hooks on the class ``MlflowClient``."""
    hooks.around(client, "create_registered_model", _model_created, kind=ML_MODEL_REGISTERED)
    # What both the fluent function and the public method call.
    if not hooks.around(client, "_create_model_version", _version_created, kind=ML_MODEL_REGISTERED):
        hooks.around(client, "create_model_version", _version_created, kind=ML_MODEL_REGISTERED)
    hooks.around(client, "copy_model_version", _version_copied, kind=ML_MODEL_REGISTERED)
    hooks.around(client, "set_registered_model_alias", _alias_set, kind=ML_MODEL_PROMOTED)
    hooks.around(client, "delete_registered_model_alias", _alias_deleted, kind=ML_MODEL_PROMOTED)
    hooks.around(client, "transition_model_version_stage", _stage_set, kind=ML_MODEL_PROMOTED)
    hooks.around(client, "delete_model_version", _version_deleted, kind=ML_MODEL_DELETED)
    hooks.around(client, "delete_registered_model", _model_deleted, kind=ML_MODEL_DELETED)


def _model_created(pipeline: Pipeline, call: Call) -> Audit:
    change = Change(pipeline, ML_MODEL_REGISTERED, call)
    outcome = yield
    # ``mlflow.register_model`` tries it every time.
    if getattr(outcome.error, "error_code", "") not in _EXISTS:
        change.ended(outcome)


def _version_created(pipeline: Pipeline, call: Call) -> Audit:
    change = Change(pipeline, ML_MODEL_REGISTERED, call)
    latest = change.before(lambda: _latest(change.client, change.name))
    outcome = yield
    _registered(change, latest, outcome, str(call.argument(1, "source") or ""), call.argument(2, "run_id"))


def _version_copied(pipeline: Pipeline, call: Call) -> Audit:
    change = Change(pipeline, ML_MODEL_REGISTERED, call)
    source, change.name = str(call.argument(0, "src_model_uri")), str(call.argument(1, "dst_name"))
    latest = change.before(lambda: _latest(change.client, change.name))
    outcome = yield
    _registered(change, latest, outcome, source, None)


def _registered(change: Change, latest: Any, outcome: Outcome, source: str, run_id: str | None) -> None:
    change.fields |= {"ml.model.path": place_of(source), "ml.training.run_id": run_id or ""}
    if outcome.error is not None:
        change.ended(outcome)
        return
    made = outcome.result
    change.version = str(made.version)
    if (logged := logging_model.get()) is not None:
        logged.version = change.version
    run_id = made.run_id or run_id or ""
    register = ArtifactRegister(change.pipeline.settings.state_dir)
    digest = change.before(lambda: _digest(register, source), "")
    change.fields |= {"ml.training.run_id": run_id, "ml.model.digest": digest}
    change.ended(outcome)
    path = version_path(change.name, change.version)
    if digest:
        register.save(path, change.name, digest, run_id, change.version)
    if latest is not None:
        before = register.last(version_path(change.name, str(latest.version)))
        previous = Previous(str(latest.version), before.digest if before else "", latest.run_id or "")
        run = known_run(run_id)
        # The training of the object itself, inside the run, where that is where the data is known.
        trained = known_of(logged.model) if logged is not None else run
        about = Known(
            change.name,
            change.version,
            digest,
            path,
            run_id,
            run.dataset or trained.dataset,
            {**trained.metrics, **run.metrics},
        )
        retraining.notice(change.pipeline, about, previous, fields={"ml.registry.name": "mlflow"})


def _latest(client: Any, name: str) -> Any:
    quoted = name.replace("'", "\\'")
    newest = client.search_model_versions(f"name='{quoted}'", max_results=1, order_by=["version_number DESC"])
    return newest[0] if newest else None


def _digest(register: ArtifactRegister, source: str) -> str:
    """Of the folder as it stands, where it is one of this machine; else of the artifact as it was logged here."""
    parts = urlsplit(source)
    path = url2pathname(parts.path) if parts.scheme == "file" else source
    if os.path.isdir(path):  # noqa: PTH112
        return artifact_files.read(path, IGNORED).digest
    last = register.last(place_of(source))
    return "" if last is None else last.digest


def _alias_set(pipeline: Pipeline, call: Call) -> Audit:
    change = Change(pipeline, ML_MODEL_PROMOTED, call, str(call.argument(2, "version")))
    alias = str(call.argument(1, "alias"))
    change.fields |= {
        "ml.registry.alias": alias,
        "ml.registry.before": _aliases(change).get(alias, ""),
        "ml.registry.after": change.version,
    }
    change.lineage()
    outcome = yield
    change.ended(outcome)


def _alias_deleted(pipeline: Pipeline, call: Call) -> Audit:
    change = Change(pipeline, ML_MODEL_PROMOTED, call)
    alias = str(call.argument(1, "alias"))
    change.version = _aliases(change).get(alias, "")
    change.fields |= {"ml.registry.alias": alias, "ml.registry.before": change.version}
    change.lineage()
    outcome = yield
    change.ended(outcome)


def _aliases(change: Change) -> dict[str, str]:
    found = change.before(lambda: change.client.get_registered_model(change.name).aliases, {})
    return {alias: str(version) for alias, version in found.items()}


def _stage_set(pipeline: Pipeline, call: Call) -> Audit:
    change = Change(pipeline, ML_MODEL_PROMOTED, call, str(call.argument(1, "version")))
    stage = str(call.argument(2, "stage"))
    change.fields |= {
        "ml.registry.alias": stage,
        "ml.registry.before": _stage(change),
        "ml.registry.after": stage,
    }
    change.lineage()
    archived = []
    if call.argument(3, "archive_existing_versions"):
        others = change.before(lambda: change.client.get_latest_versions(change.name, [stage]), ())
        archived = [str(one.version) for one in others if str(one.version) != change.version]
    outcome = yield
    change.ended(outcome)
    if outcome.error is None:
        for version in archived:
            other = Change(pipeline, ML_MODEL_PROMOTED, call, version)
            other.fields |= {
                "ml.registry.alias": "Archived",
                "ml.registry.before": stage,
                "ml.registry.after": "Archived",
            }
            other.lineage()
            other.ended(outcome)


def _stage(change: Change) -> str:
    found = change.before(lambda: change.client.get_model_version(change.name, change.version).current_stage)
    return str(found or "")


def _version_deleted(pipeline: Pipeline, call: Call) -> Audit:
    change = Change(pipeline, ML_MODEL_DELETED, call, str(call.argument(1, "version")))
    stage = _stage(change)
    names = [alias for alias, version in _aliases(change).items() if version == change.version]
    change.fields["ml.registry.before"] = ", ".join(
        [*names, *([stage] if stage not in ("", _NO_STAGE) else [])]
    )
    change.lineage()
    outcome = yield
    change.ended(outcome)


def _model_deleted(pipeline: Pipeline, call: Call) -> Audit:
    change = Change(pipeline, ML_MODEL_DELETED, call)
    latest = change.before(lambda: _latest(change.client, change.name))
    names = [f"{alias}={version}" for alias, version in sorted(_aliases(change).items())]
    if latest is not None:
        names.append(f"latest={latest.version}")
    change.fields["ml.registry.before"] = ", ".join(names)
    outcome = yield
    change.ended(outcome)
