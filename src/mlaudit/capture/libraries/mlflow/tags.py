"""Tags, descriptions and names in MLflow's model registry: configuration that changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.libraries.mlflow.registry_change import Change, version_path
from mlaudit.capture.process.config_keys import value_text
from mlaudit.catalog.names import ML_CONFIG_CHANGED

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlaudit.capture.hooks import Audit, Call, Hooks
    from mlaudit.pipeline.pipeline import Pipeline


def hook(hooks: Hooks, client: Any) -> None:
    """Sets the hooks on the class ``MlflowClient``."""
    for name, audit in _CONFIGURATION.items():
        hooks.around(client, name, audit, kind=ML_CONFIG_CHANGED)


def _configured(
    pipeline: Pipeline, call: Call, version: str, key: str, value: Any, ask: Callable[[Any], Any]
) -> Audit:
    """One key of a model or a version set to ``value``, or taken away where that is None."""
    change = Change(pipeline, ML_CONFIG_CHANGED, call, version)
    path = version_path(change.name, version) if version else f"models:/{change.name}"
    old = change.before(lambda: ask(change.client), None)
    before = {} if old is None else {key: str(old)}
    after = {} if value is None else {key: str(value)}
    change.fields |= {
        "ml.config.path": path,
        "ml.config.keys": [key],
        "ml.config.changes": {key: f"{value_text(before, key)} -> {value_text(after, key)}"},
    }
    outcome = yield
    change.ended(outcome)


def _model_tag(pipeline: Pipeline, call: Call) -> Audit:
    name, key = call.argument(0, "name"), str(call.argument(1, "key"))
    value = call.argument(2, "value")
    return _configured(
        pipeline, call, "", key, value, lambda client: client.get_registered_model(name).tags.get(key)
    )


def _version_tag(pipeline: Pipeline, call: Call) -> Audit:
    name, version = call.argument(0, "name"), call.argument(1, "version")
    key = str(call.argument(2, "key"))
    # ``delete_model_version_tag`` has the stage in this place.
    value = call.argument(3, "value") if call.name == "set_model_version_tag" else None
    stage = call.argument(4 if call.name == "set_model_version_tag" else 3, "stage")
    if not version and stage:
        version = call.instance.get_latest_versions(name, stages=[stage])[0].version

    def ask(client: Any) -> Any:
        return client.get_model_version(name, version).tags.get(key)

    return _configured(pipeline, call, str(version), key, value, ask)


def _version_text(pipeline: Pipeline, call: Call) -> Audit:
    name, version = call.argument(0, "name"), str(call.argument(1, "version"))
    text = call.argument(2, "description")
    return _configured(
        pipeline,
        call,
        version,
        "description",
        text,
        lambda client: client.get_model_version(name, version).description,
    )


def _model_text(pipeline: Pipeline, call: Call) -> Audit:
    name, text = call.argument(0, "name"), call.argument(1, "description")
    return _configured(
        pipeline, call, "", "description", text, lambda client: client.get_registered_model(name).description
    )


def _model_renamed(pipeline: Pipeline, call: Call) -> Audit:
    name = call.argument(0, "name")
    return _configured(pipeline, call, "", "name", call.argument(1, "new_name"), lambda _: name)


_CONFIGURATION: Final = {
    "set_registered_model_tag": _model_tag,
    "delete_registered_model_tag": _model_tag,
    "set_model_version_tag": _version_tag,
    "delete_model_version_tag": _version_tag,
    "update_model_version": _version_text,
    "update_registered_model": _model_text,
    "rename_registered_model": _model_renamed,
}
