"""Models that MLflow writes, reads, evaluates and predicts with."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.hooks import finish, refuse_unless_writable
from mlaudit.capture.libraries.mlflow.loading import is_loading, load, read
from mlaudit.capture.libraries.mlflow.record import emit, fields_of, flavors
from mlaudit.capture.libraries.mlflow.state import (
    COMPONENT,
    IGNORED,
    MLMODEL,
    Logging,
    logging_model,
    place_of,
)
from mlaudit.capture.models import artifact_files, known_models, prediction
from mlaudit.capture.models.artifact_records import saving
from mlaudit.capture.models.artifact_register import ArtifactRegister
from mlaudit.capture.models.estimator_runs import model_fields
from mlaudit.capture.models.known_models import Known
from mlaudit.capture.nesting import part_of_artifact
from mlaudit.catalog.names import ML_MODEL_LOADED, ML_MODEL_SAVED, ML_PREDICTION

if TYPE_CHECKING:
    from mlaudit.capture.hooks import Audit, Call, Hooks, Outcome
    from mlaudit.pipeline.pipeline import Pipeline

# Modules that save and load models of one library each; one that is not imported costs nothing.
FLAVORS: Final = (
    "catboost",
    "h2o",
    "keras",
    "langchain",
    "lightgbm",
    "llama_index",
    "onnx",
    "openai",
    "paddle",
    "pmdarima",
    "prophet",
    "pyfunc",
    "pytorch",
    "sentence_transformers",
    "sklearn",
    "spacy",
    "spark",
    "statsmodels",
    "tensorflow",
    "transformers",
    "xgboost",
)


# Files that hold a model by the custom of the libraries that write them.
MODEL_FILES: Final = (
    *(".joblib", ".pkl", ".pickle", ".skops", ".onnx", ".pt", ".pth", ".ckpt", ".safetensors"),
    *(".keras", ".h5", ".ubj", ".model", ".cbm", ".gguf"),
)
_EXAMPLE: Final = "resolve_input_example_and_signature"


def hook(hooks: Hooks, client: Any) -> None:
    """Sets the hooks on the class ``MlflowClient``, and those of a flavour when its module is imported."""
    from mlflow.models import Model
    from mlflow.utils import autologging_utils

    hooks.around(Model, "log", _log, outermost=True)
    hooks.around(Model, "load", read, refuse_after=True, when=is_loading)
    hooks.around(client, "log_artifact", _upload_file, kind=ML_MODEL_SAVED, when=_is_model_file)
    hooks.around(client, "log_artifacts", _upload, kind=ML_MODEL_SAVED, when=_is_model)
    hooks.around(client, "log_model_artifacts", _upload, kind=ML_MODEL_SAVED, when=_is_model)
    # A prediction that autologging makes for its own purposes is not the program's.
    hooks.around(autologging_utils, _EXAMPLE, _quiet, outermost=True)
    hooks.when_imported(
        "mlflow.sklearn.utils",
        lambda module: _hook_autologging(hooks, module),
    )
    for flavor in FLAVORS:
        hooks.when_imported(f"mlflow.{flavor}", lambda module: _hook_flavor(hooks, module))


def _hook_autologging(hooks: Hooks, module: Any) -> None:
    hooks.around(module, "_log_estimator_content", _quiet, outermost=True)


def _hook_flavor(hooks: Hooks, module: Any) -> None:
    # Imported by name, maybe before the hooks were set.
    hooks.around(module, _EXAMPLE, _quiet, outermost=True)
    hooks.around(module, "save_model", _save, kind=ML_MODEL_SAVED, outermost=True)
    hooks.around(module, "load_model", load, kind=ML_MODEL_LOADED, outermost=True, refuse_after=True)
    for name in ("PyFuncModel", "_ServedPyFuncModel"):
        cls = vars(module).get(name)
        if cls is not None:
            hooks.around(cls, "predict", _predict, kind=ML_PREDICTION, outermost=True, refuse_after=True)


def _quiet(_: Pipeline, __: Call) -> Audit:
    yield


def _object_in(arguments: dict[str, Any]) -> Any:
    """The model among the arguments of a function that saves one: each flavour has a name of its own for it."""
    for name, value in arguments.items():
        is_named_so = (name == "model" or name.endswith("_model")) and name != "mlflow_model"
        if is_named_so and not isinstance(value, str | os.PathLike | None):
            return value
    return None


def _log(_: Pipeline, call: Call) -> Audit:
    """``log_model`` of every flavour: sets which object is uploaded, and remembers it under its new name."""
    kwargs = call.kwargs
    name = str(kwargs.get("name") or call.argument(0, "artifact_path") or "model")
    model = _object_in(kwargs)
    under_way = Logging(model, name)
    token, part = logging_model.set(under_way), part_of_artifact.set(True)
    try:
        outcome = yield
    finally:
        logging_model.reset(token)
        part_of_artifact.reset(part)
    if outcome.error is not None or model is None or under_way.about is known_models.NOTHING:
        return
    about = under_way.about
    if under_way.version:
        about = replace(about, name=str(kwargs.get("registered_model_name")), version=under_way.version)
    before = known_models.lookup(model)
    # The MLflow run around the training that made it: continued training is another run.
    past = about.run_id != before.run_id
    known_models.remember(model, replace(about, dataset=before.dataset, metrics=before.metrics, loaded=past))


def _is_model(call: Call) -> bool:
    folder = call.argument(1, "local_dir")
    return folder is not None and os.path.isfile(os.path.join(folder, MLMODEL))  # noqa: PTH113, PTH118


def _upload(pipeline: Pipeline, call: Call) -> Audit:
    """A folder that holds a model goes into the artifact store of a run, or of MLflow 3's logged models."""
    under_way = logging_model.get()
    folder = os.fspath(call.argument(1, "local_dir"))
    given = str(call.argument(2, "artifact_path") or "")
    name = (
        under_way.name
        if under_way is not None
        else (given or artifact_files.name_of(folder)).rpartition("/")[2]
    )
    refuse_unless_writable(pipeline, ML_MODEL_SAVED, f"saving {name}", model=name)
    artifact = artifact_files.read(folder, IGNORED)
    meta = _meta(folder)
    run_id = str(getattr(meta, "run_id", None) or "")
    outcome = yield
    if call.name == "log_model_artifacts":
        path = f"models:/{call.argument(0, 'model_id')}"
    else:
        run_id = str(call.argument(0, "run_id"))
        path = _place(call.instance, run_id, given)
    model = None if under_way is None else under_way.model
    about = Known(name, "", artifact.digest, path, run_id or known_models.lookup(model).run_id)
    if outcome.error is None and under_way is not None:
        under_way.about = about
    _uploaded(pipeline, outcome, about, model, {"bytes": str(artifact.size), **flavors(meta)})


def _is_model_file(call: Call) -> bool:
    path = call.argument(1, "local_path")
    return path is not None and os.fspath(path).lower().endswith(MODEL_FILES) and logging_model.get() is None


def _upload_file(pipeline: Pipeline, call: Call) -> Audit:
    """A file of a model goes into the artifact store of a run."""
    run_id, path = str(call.argument(0, "run_id")), os.fspath(call.argument(1, "local_path"))
    artifact = artifact_files.read(path)
    refuse_unless_writable(pipeline, ML_MODEL_SAVED, f"saving {artifact.name}", model=artifact.name)
    outcome = yield
    folder = str(call.argument(2, "artifact_path") or "")
    place = _place(call.instance, run_id, f"{folder}/{os.path.basename(path)}".lstrip("/"))  # noqa: PTH119
    about = Known(artifact.name, "", artifact.digest, place, run_id)
    _uploaded(pipeline, outcome, about, None, {"bytes": str(artifact.size)})


def _place(client: Any, run_id: str, name: str) -> str:
    return place_of(f"{client.get_run(run_id).info.artifact_uri}/{name}".rstrip("/"))


def _uploaded(pipeline: Pipeline, outcome: Outcome, about: Known, model: Any, labels: dict[str, str]) -> None:
    fields = {
        **({} if model is None else model_fields(model, about.name, about)),
        **fields_of(about),
        "labels": labels,
    }
    if outcome.error is None:
        register = ArtifactRegister(pipeline.settings.state_dir)
        register.save(about.path, about.name, about.digest, about.run_id)
    emit(pipeline, ML_MODEL_SAVED, outcome, about, fields)


def _save(pipeline: Pipeline, call: Call) -> Audit:
    """``save_model`` of any flavour; within ``log_model`` it is silent."""
    if part_of_artifact.get():
        return
    model, path = call.argument(0, "model"), call.kwargs.get("path")
    if path is None:
        # ``mlflow.pyfunc`` takes the path first, the others the model.
        path = next((value for value in call.args[:2] if isinstance(value, str | os.PathLike)), "")
    if model is None or isinstance(model, str | os.PathLike):
        model = _object_in(call.kwargs)
    if model is None:
        model = _Unknown()
    audit = saving(pipeline, COMPONENT, [model], path)
    next(audit)
    token = part_of_artifact.set(True)
    try:
        outcome = yield
    finally:
        part_of_artifact.reset(token)
    finish(audit, outcome)


class _Unknown:
    """A model that is saved by code instead of an object."""


def _predict(pipeline: Pipeline, call: Call) -> Audit:
    return prediction.predicting(pipeline, "predict", call.instance, call.argument(0, "data"))


def _meta(folder: str) -> Any:
    from mlflow.models import Model

    return Model.load(os.path.join(folder, MLMODEL))  # noqa: PTH118
