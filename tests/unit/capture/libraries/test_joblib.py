"""joblib.dump and joblib.load: what is recorded, when, and what happens to the file's reputation."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import Pipeline

from mlaudit.capture.hooks import Call, Outcome, finish, start
from mlaudit.capture.libraries import joblib as module
from mlaudit.capture.libraries.joblib import JoblibIntegration
from mlaudit.capture.models import artifact_files, known_models
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from mlaudit.testing import AuditLog

SAVED = "audit.ml.model.saved"
LOADED = "audit.ml.model.loaded"
HEAD = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: first, reason: test, sections: [3]}]
"""
REFUSE = HEAD + "rules: [{name: strict, level: metadata, on_failure: refuse}]"


class Constant(ClassifierMixin, BaseEstimator):
    """Always the same answer."""

    def __init__(self, answer: float = 0.0) -> None:
        self.answer = answer

    def fit(self, X: Any, y: Any = None) -> Constant:  # noqa: N803
        self.weights_ = np.arange(1000.0)
        return self

    def predict(self, X: Any) -> Any:  # noqa: N803
        return np.full(len(X), self.answer)


class Wrapped:
    """A user's own class around an estimator."""

    def __init__(self, model: Constant) -> None:
        self.model = model


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.getenv, ("PATH",)


def sha256(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("ending", ["joblib", "joblib.gz", "pkl.z", "joblib.bz2", "joblib.xz", "joblib.lzma"])
def test_save_and_load_name_the_same_artifact(log: AuditLog, tmp_path: Path, ending: str) -> None:
    """Plain or compressed, saved and loaded name the file's digest, version and class."""
    path = tmp_path / f"credit.{ending}"
    assert joblib.dump(Constant(), path) == [str(path)]
    assert isinstance(joblib.load(path), Constant)
    saved, loaded = log.of(SAVED)[0], log.of(LOADED)[0]
    assert saved["ml.model.digest"] == loaded["ml.model.digest"] == sha256(path)
    assert saved["ml.model.path"] == loaded["ml.model.path"] == str(path)
    assert saved["ml.model.name"] == loaded["ml.model.name"] == "credit"
    assert saved["audit.target.id"] == loaded["audit.target.id"] == "credit@1"
    assert loaded["ml.model.registration"] == "match"
    assert saved["labels"] == {"bytes": str(path.stat().st_size)}
    assert saved["ml.model.class"] == loaded["ml.model.class"]
    assert saved["ml.model.class"].endswith("Constant")
    assert saved["audit.guarantee"] == loaded["audit.guarantee"] == "durable"


def test_each_new_content_is_a_new_version(log: AuditLog, tmp_path: Path) -> None:
    """Saving other content at the same path counts the version up; the same content does not."""
    path = tmp_path / "m.joblib"
    for answer in (1.0, 1.0, 2.0):
        joblib.dump(Constant(answer), path)
    assert [record["ml.model.version"] for record in log.of(SAVED)] == ["1", "1", "2"]


def test_exchanged_file_is_a_mismatch(log: AuditLog, tmp_path: Path) -> None:
    """A file that is not what was saved last at its path is loaded, and the record says mismatch."""
    path = tmp_path / "m.joblib"
    joblib.dump(Constant(), path)
    registered = sha256(path)
    other = tmp_path / "other.joblib"
    joblib.dump(Constant(9.0), other)
    other.replace(path)
    joblib.load(path)
    record = log.of(LOADED)[0]
    assert record["ml.model.registration"] == "mismatch"
    assert record["ml.model.registered_digest"] == registered
    assert record["ml.model.digest"] == sha256(path) != registered


def test_copy_of_a_registered_artifact_matches(log: AuditLog, tmp_path: Path) -> None:
    """A deployed copy is known by its content; a file that nobody saved under audit is unregistered."""
    joblib.dump(Constant(), tmp_path / "m.joblib")
    copy = tmp_path / "deployed.joblib"
    copy.write_bytes((tmp_path / "m.joblib").read_bytes())
    joblib.load(copy)
    strange = tmp_path / "strange.joblib"
    strange.write_bytes(pickle.dumps(Constant(5.0)))
    joblib.load(strange)
    assert [record["ml.model.registration"] for record in log.of(LOADED)] == ["match", "unregistered"]
    assert "ml.model.version" not in log.of(LOADED)[1]


def test_policy_register_goes_first(auditing: Any, tmp_path: Path) -> None:
    """A digest registered in the policy decides, whatever was saved locally."""
    path = tmp_path / "m.joblib"
    policy = HEAD + f'models: [{{name: m, digest: "sha256:{"0" * 64}"}}]\nrules: []'
    with auditing(policy) as log:
        joblib.dump(Constant(), path)
        joblib.load(path)
    record = log.of(LOADED)[0]
    assert record["ml.model.registration"] == "mismatch"
    assert record["ml.model.registered_digest"] == "0" * 64


def test_predictions_name_the_artifact_they_came_from(log: AuditLog, tmp_path: Path) -> None:
    """A loaded model's predictions carry its name, version and digest; training it again removes them."""
    path = tmp_path / "credit-risk.joblib"
    joblib.dump(Constant().fit([[1.0]]), path)
    model = joblib.load(path)
    model.predict([[1.0]])
    record = log.of("audit.ml.prediction")[0]
    assert record["ml.model.name"] == "credit-risk"
    assert record["ml.model.version"] == "1"
    assert record["ml.model.digest"] == sha256(path)
    model.fit([[1.0]]).predict([[1.0]])
    assert "ml.model.digest" not in log.of("audit.ml.prediction")[1]


def test_saved_model_names_the_run_that_trained_it(log: AuditLog, tmp_path: Path) -> None:
    """From an artifact the auditor finds the training run."""
    joblib.dump(Constant().fit([[1.0]]), tmp_path / "m.joblib")
    run = log.of("audit.ml.training.completed")[0]["ml.training.run_id"]
    assert log.of(SAVED)[0]["ml.training.run_id"] == run


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: {"model": model, "threshold": 0.5},
        lambda model: (model, [1, 2]),
        lambda model: [model],
        Wrapped,
    ],
    ids=["dict", "tuple", "list", "object"],
)
def test_bundles_are_models_too(log: AuditLog, tmp_path: Path, wrap: Any) -> None:
    """A model saved within a dict, a tuple or one's own object is recorded, and known when it is loaded."""
    joblib.dump(wrap(Constant()), tmp_path / "bundle.joblib")
    bundle = joblib.load(tmp_path / "bundle.joblib")
    known_models.models_in(bundle)[0].predict([[1.0]])
    assert log.kinds() == [SAVED, LOADED, "audit.ml.prediction"]
    assert log.of("audit.ml.prediction")[0]["ml.model.name"] == "bundle"


def test_other_objects_are_saved_in_silence(log: AuditLog, tmp_path: Path) -> None:
    """Saving an array or a dict of numbers is no business of a model audit."""
    joblib.dump(np.arange(3), tmp_path / "a.joblib")
    joblib.dump({"a": 1}, tmp_path / "b.joblib")
    assert log.kinds() == []


def test_cache_and_workers_of_joblib_make_no_noise(log: AuditLog, tmp_path: Path) -> None:
    """Joblib's own caching of estimators and its transport to workers are not what a user saves or loads."""
    memory = joblib.Memory(tmp_path, verbose=0)
    Pipeline([("a", "passthrough"), ("b", Constant())], memory=memory).fit(np.ones((3, 1)), [0, 1, 0])
    cached = memory.cache(_double)
    assert cached(Constant()).answer == cached(Constant()).answer
    assert set(log.kinds()) == {"audit.ml.training.started", "audit.ml.training.completed"}


def _double(model: Constant) -> Constant:
    return model


def test_the_record_comes_before_the_first_byte_is_unpickled(log: AuditLog, tmp_path: Path) -> None:
    """A pickle that runs code is on record, with what it names, before that code runs."""
    path = tmp_path / "trap.joblib"
    path.write_bytes(pickle.dumps(Trap()))
    seen: list[int] = []
    original = os.getenv

    def spy(*args: Any) -> Any:
        seen.append(len(log.of(LOADED)))
        return original(*args)

    os.getenv = spy  # type: ignore[assignment]
    try:
        joblib.load(path)
    finally:
        os.getenv = original
    assert seen == [1]
    assert log.of(LOADED)[0]["ml.model.class"] == "os.getenv"
    assert log.of(LOADED)[0]["ml.model.digest"] == sha256(path)


def test_refused_load_does_not_unpickle(auditing: Any, tmp_path: Path) -> None:
    """With on_failure refuse a model that cannot be recorded is not loaded, and not saved."""
    path = tmp_path / "m.joblib"
    with auditing(REFUSE) as log:
        joblib.dump(Constant(), path)
        log.fail(SpoolUnavailableError("disk full"))
        with pytest.raises(AuditRefusedError):
            joblib.load(path)
        with pytest.raises(AuditRefusedError):
            joblib.dump(Constant(), tmp_path / "n.joblib")
        assert not (tmp_path / "n.joblib").exists()
        log.heal()
        assert isinstance(joblib.load(path), Constant)


def test_file_objects(log: AuditLog, tmp_path: Path) -> None:
    """Open files and buffers are digested where they stand and left where joblib leaves them."""
    buffer = io.BytesIO()
    joblib.dump(Constant(), buffer)
    end = buffer.tell()
    assert isinstance(joblib.load(buffer), Constant)
    assert log.of(SAVED)[0]["ml.model.digest"] == log.of(LOADED)[0]["ml.model.digest"]
    assert log.of(SAVED)[0]["ml.model.path"] == "<BytesIO>"
    assert buffer.tell() == end

    path = tmp_path / "m.joblib"
    with path.open("wb") as file:
        joblib.dump(Constant(), file)
    with path.open("rb") as file:
        joblib.load(file)
    assert log.of(LOADED)[1]["ml.model.digest"] == sha256(path)
    assert log.of(LOADED)[1]["ml.model.path"] == str(path)


def test_memory_mapping_is_passed_on(log: AuditLog, tmp_path: Path) -> None:
    """mmap_mode goes to joblib as it was given."""
    path = tmp_path / "m.joblib"
    joblib.dump(Constant().fit([[1.0]]), path)
    assert isinstance(joblib.load(path, mmap_mode="r").weights_, np.memmap)
    assert log.of(LOADED)[0]["ml.model.digest"] == sha256(path)


def test_failures_are_recorded_and_raised(log: AuditLog, tmp_path: Path) -> None:
    """A missing file, a damaged one and an unwritable target are failures on record; joblib's error goes on."""
    with pytest.raises(FileNotFoundError):
        joblib.load(tmp_path / "missing.joblib")
    damaged = tmp_path / "damaged.joblib"
    damaged.write_bytes(b"\x80\x04nothing")
    with pytest.raises(Exception, match=r".*"):
        joblib.load(damaged)
    with pytest.raises(FileNotFoundError):
        joblib.dump(Constant(), tmp_path / "no" / "folder.joblib")
    outcomes = [(record["ml.model.name"], record["event.outcome"]) for record in log.of(LOADED)]
    assert outcomes == [("missing", "failure"), ("damaged", "success"), ("damaged", "failure")]
    assert log.of(SAVED)[0]["error.type"] == "FileNotFoundError"


def test_file_that_changes_while_it_is_loaded_is_told(log: AuditLog, tmp_path: Path) -> None:
    """When the file is exchanged between digest and load, a second record says so."""
    path = tmp_path / "m.joblib"
    joblib.dump(Constant(), path)
    audit = start(module._load, log.pipeline, Call("load", None, (str(path),), {}))
    path.write_bytes(path.read_bytes() + b"x")
    assert audit is not None
    finish(audit, Outcome(Constant(), None, 1))
    first, second = log.of(LOADED)
    assert first["event.outcome"] == "success"
    assert second["event.outcome"] == "unknown"
    assert "changed while" in second["event.reason"]


def test_references_to_the_hooks_pickle(auditing: Any) -> None:
    """joblib.load can be sent to a worker like any other function."""
    assert pickle.loads(pickle.dumps(joblib.load)) is joblib.load
    assert pickle.loads(pickle.dumps(joblib.dump)) is joblib.dump


@pytest.mark.parametrize("broken", ["read", "read_back", "name_of"])
def test_broken_hook_harms_nobody(
    log: AuditLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """With any part broken on purpose, models are saved and loaded, and the trail records the fault."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(artifact_files, broken, fail)
    joblib.dump(Constant(), tmp_path / "m.joblib")
    joblib.dump(Constant(), io.BytesIO())
    assert isinstance(joblib.load(tmp_path / "m.joblib"), Constant)
    assert any("RuntimeError" in record.get("audit.failure.reason", "") for record in log.records)


def test_damaged_register_costs_the_version_not_the_record(log: AuditLog, tmp_path: Path) -> None:
    """A register that cannot be read is reported as a fault; models are saved, loaded and recorded."""
    (log.pipeline.settings.state_dir / "models.json").write_text("[1, 2", encoding="utf-8")
    joblib.dump(Constant(), tmp_path / "m.joblib")
    joblib.load(tmp_path / "m.joblib")
    assert "ml.model.version" not in log.of(SAVED)[0]
    assert log.of(LOADED)[0]["ml.model.registration"] == "unregistered"
    assert any("ValueError" in record.get("audit.failure.reason", "") for record in log.records)


def test_uninstrument_puts_the_originals_back() -> None:
    """After uninstrument joblib has its own functions again."""
    was_set = module.is_instrumented()
    integration = JoblibIntegration()
    integration.instrument()
    integration.instrument()
    integration.uninstrument()
    assert joblib.load is joblib.numpy_pickle.load
    assert joblib.dump is joblib.numpy_pickle.dump
    assert "_mlaudit" not in joblib.parallel.BatchedCalls.__call__.__code__.co_names
    if was_set:
        integration.instrument()
