"""Keras models under audit, on JAX."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import keras
import numpy as np
import pytest

import mlaudit
from mlaudit.capture.data.digest import digest
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.testing import AuditLog

STARTED = "audit.ml.training.started"
COMPLETED = "audit.ml.training.completed"
FAILED = "audit.ml.training.failed"
EVALUATED = "audit.ml.training.evaluated"
PREDICTION = "audit.ml.prediction"
SAVED = "audit.ml.model.saved"
LOADED = "audit.ml.model.loaded"
REFUSE = """
version: 1
revisions: [{number: 1, date: 2026-11-28, changes: first, reason: test, sections: [3]}]
rules:
  - {name: strict, level: metadata, on_failure: refuse}
"""
X = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("float32")

Hooked = Callable[..., AbstractContextManager[AuditLog]]


@pytest.fixture
def log(hooked: Hooked) -> Iterator[AuditLog]:
    """The records of Keras."""
    with hooked("keras") as found:
        yield found


def network(name: str | None = None) -> keras.Model:
    """A small one, compiled."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(1, "sigmoid")], name=name
    )
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    return model


def test_fit_evaluate_and_predict_are_one_record_each(log: AuditLog) -> None:
    """A run with settings, data and last metrics; an evaluation of it; a prediction. Validation is part of the run."""
    model = network("churn")
    model.fit(X, Y, epochs=3, batch_size=10, validation_split=0.25, verbose=0)
    values = model.evaluate(X, Y, verbose=0)
    named = model.evaluate(X, Y, verbose=0, return_dict=True)
    predicted = model.predict(X, verbose=0)
    assert log.kinds() == [STARTED, COMPLETED, EVALUATED, EVALUATED, PREDICTION]
    (started,), (completed,) = log.of(STARTED), log.of(COMPLETED)
    assert started["ml.training.run_id"] == completed["ml.training.run_id"]
    assert started["ml.model.name"] == started["audit.target.id"] == "churn"
    assert started["ml.model.library_version"] == keras.__version__
    parameters = started["ml.training.parameters"]
    assert (parameters["epochs"], parameters["batch_size"]) == ("3", "10")
    assert (parameters["optimizer"], parameters["loss"]) == ("SGD", "binary_crossentropy")
    assert started["ml.dataset.digest"] == digest(X)
    assert started["ml.dataset.target.digest"] == digest(Y)
    metrics = completed["ml.training.metrics"]
    assert metrics["epochs"] == 3
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(metrics)
    first, second = log.of(EVALUATED)
    assert first["ml.training.run_id"] == completed["ml.training.run_id"]
    assert first["ml.training.metrics"]["loss"] == pytest.approx(values[0])
    assert second["ml.training.metrics"] == pytest.approx(named)
    (prediction,) = log.of(PREDICTION)
    assert prediction["ml.model.name"] == "churn"
    assert prediction["ml.prediction.input.digest"] == digest(X)
    assert prediction["ml.prediction.output.digest"] == digest(predicted)


def test_a_file_links_the_run_that_made_it_with_the_predictions_from_it(
    log: AuditLog, tmp_path: Path
) -> None:
    """Saved and loaded by either name; predictions name the file's digest; checkpoints belong to the run."""
    model, path = network(), tmp_path / "churn.keras"
    model.fit(X, Y, verbose=0, callbacks=[keras.callbacks.ModelCheckpoint(tmp_path / "best.keras")])
    model.save(path)
    again = keras.models.load_model(path)
    keras.saving.load_model(path)
    again.predict(X[:2], verbose=0)
    assert log.kinds() == [STARTED, SAVED, COMPLETED, SAVED, LOADED, LOADED, PREDICTION]
    checkpoint, saved = log.of(SAVED)
    run = log.of(COMPLETED)[0]["ml.training.run_id"]
    assert checkpoint["ml.training.run_id"] == saved["ml.training.run_id"] == run
    on_disk = hashlib.sha256(path.read_bytes()).hexdigest()
    assert saved["ml.model.digest"] == log.of(LOADED)[0]["ml.model.digest"] == on_disk
    assert log.of(LOADED)[0]["ml.model.registration"] == "match"
    assert log.of(LOADED)[0]["labels"]["safe_mode"] == "true"
    assert log.of(PREDICTION)[0]["ml.model.digest"] == on_disk


def test_weights_alone_are_files_too(log: AuditLog, tmp_path: Path) -> None:
    """Weight files are marked as weights, and a model that loads them is identified by them."""
    model, path = network("churn"), tmp_path / "churn.weights.h5"
    model.save_weights(path)
    other = network("churn")
    other.load_weights(path)
    (saved,), (loaded,) = log.of(SAVED), log.of(LOADED)
    assert saved["labels"]["content"] == loaded["labels"]["content"] == "weights"
    assert loaded["ml.model.digest"] == saved["ml.model.digest"]


def test_a_run_around_it_names_the_model(log: AuditLog) -> None:
    """Inside of a stated run the fit is its child."""
    with mlaudit.training_run("churn") as run:
        network().fit(X, Y, verbose=0)
    inner, outer = log.of(COMPLETED)
    assert inner["ml.training.parent_run_id"] == run.run_id
    assert inner["ml.model.name"] == "churn"
    assert outer["ml.training.metrics"]["accuracy"] == inner["ml.training.metrics"]["accuracy"]


def test_a_fit_that_fails_is_recorded_and_raises(log: AuditLog) -> None:
    """An error of Keras is recorded and raised unchanged."""
    with pytest.raises((ValueError, RuntimeError)):
        network().fit(X[:, :2], Y, verbose=0)
    assert log.kinds() == [STARTED, FAILED]


def test_a_fit_that_cannot_be_recorded_does_not_start_under_refuse(hooked: Hooked) -> None:
    """Nothing was trained."""
    with hooked("keras", policy=REFUSE) as log:
        model = network()
        before = model.get_weights()[0].copy()
        log.fail(SpoolUnavailableError("full"))
        with pytest.raises(AuditRefusedError):
            model.fit(X, Y, verbose=0)
        log.heal()
        assert np.array_equal(before, model.get_weights()[0])


def test_broken_hooks_harm_nobody(hooked: Hooked, broken: str, tmp_path: Path) -> None:
    """With every hook broken Keras returns the same results; the faults are recorded."""
    expected = network()
    expected.fit(X, Y, verbose=0)
    with hooked("keras") as log:
        model = network()
        model.fit(X, Y, verbose=0)
        model.save(tmp_path / "m.keras")
        again = keras.models.load_model(tmp_path / "m.keras")
        assert np.allclose(again.predict(X, verbose=0), expected.predict(X, verbose=0))
        assert len(model.evaluate(X, Y, verbose=0)) == 2
        assert any(record.get("audit.failed") for record in log.of(STARTED))
    assert "/mlaudit/capture/" not in keras.Model.fit.__code__.co_filename
