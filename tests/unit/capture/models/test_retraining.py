"""The notice that a model was retrained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import mlaudit
from mlaudit.capture.libraries.joblib import JoblibIntegration
from mlaudit.capture.libraries.sklearn import SklearnIntegration
from mlaudit.capture.models import known_models, retraining
from mlaudit.capture.models.artifact_register import Previous
from mlaudit.errors import SpoolUnavailableError
from mlaudit.testing import capture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlaudit.testing import AuditLog

KIND = "audit.ml.model.retrained"
X = np.array([[0.0], [1.0], [2.0], [3.0]])
Y = np.array([0, 0, 1, 1])


@pytest.fixture
def log() -> Iterator[AuditLog]:
    """Records under the hooks into scikit-learn and joblib."""
    integrations = (SklearnIntegration(), JoblibIntegration())
    with capture(instrument=False) as audit_log:
        for integration in integrations:
            integration.instrument()
        try:
            yield audit_log
        finally:
            for integration in integrations:
                integration.uninstrument()


def test_model_saved_anew_is_a_retraining(log: AuditLog, tmp_path: Path) -> None:
    """The second content at a path is recorded with both versions, digests and runs, the data and the metrics."""
    path = tmp_path / "credit.joblib"
    model = LogisticRegression().fit(X, Y)
    joblib.dump(model, path)
    assert log.of(KIND) == []
    model.fit(X[:3], Y[:3])
    model.score(X, Y)
    joblib.dump(model, path)
    (notice,) = log.of(KIND)
    first, second = log.of("audit.ml.model.saved")
    runs = [record["ml.training.run_id"] for record in log.of("audit.ml.training.completed")]
    assert notice["ml.model.name"] == "credit"
    assert (notice["ml.model.previous.version"], notice["ml.model.version"]) == ("1", "2")
    assert notice["ml.model.previous.digest"] == first["ml.model.digest"]
    assert notice["ml.model.digest"] == second["ml.model.digest"]
    assert [notice["ml.model.previous.run_id"], notice["ml.training.run_id"]] == runs
    assert notice["ml.training.metrics"]["accuracy"] == model.score(X, Y)
    assert notice["ml.dataset.digest"] == log.of("audit.ml.training.completed")[1]["ml.dataset.digest"]
    assert notice["audit.target.id"] == "credit@2"


def test_same_content_again_is_none(log: AuditLog, tmp_path: Path) -> None:
    """Saving what is there already, or another model elsewhere, is no retraining."""
    model = LogisticRegression().fit(X, Y)
    joblib.dump(model, tmp_path / "a.joblib")
    joblib.dump(model, tmp_path / "a.joblib")
    joblib.dump(LogisticRegression(C=2.0).fit(X, Y), tmp_path / "b.joblib")
    assert log.of(KIND) == []


def test_stated_run_that_writes_a_model_again(log: AuditLog, tmp_path: Path) -> None:
    """A file that a stated training run declares is recorded as retrained as well, with the run's own metrics."""
    path = tmp_path / "fraud.pt"
    for content in (b"one", b"two"):
        path.write_bytes(content)
        with mlaudit.training_run("fraud") as run:
            run.log_metric("auc", len(content) / 4)
            run.artifact(path)
    (notice,) = log.of(KIND)
    assert notice["ml.training.metrics"] == {"auc": 0.75}
    assert notice["ml.model.previous.run_id"] == log.of("audit.ml.model.saved")[0]["ml.training.run_id"]


def test_loaded_model_trained_on_is_a_run_of_its_own(log: AuditLog, tmp_path: Path) -> None:
    """A model from a file names the run that made it; going on with its training is another run."""
    from sklearn.linear_model import SGDClassifier

    path = tmp_path / "online.joblib"
    joblib.dump(SGDClassifier().partial_fit(X, Y, classes=[0, 1]), path)
    model = joblib.load(path)
    first = log.of("audit.ml.training.completed")[0]["ml.training.run_id"]
    assert known_models.lookup(model).run_id == first
    model.partial_fit(X, Y)
    joblib.dump(model, path)
    assert len(log.of("audit.ml.training.started")) == 2
    assert log.of(KIND)[0]["ml.model.previous.run_id"] == first != log.of(KIND)[0]["ml.training.run_id"]


def test_notice_that_cannot_be_made_harms_nobody(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is no error of the one who saves, and a fault is recorded in place of the notice."""
    log.fail(SpoolUnavailableError("disk full"))
    retraining.notice(log.pipeline, known_models.Known("credit", "2"), Previous("1"))
    log.heal()
    monkeypatch.setattr(retraining, "originate", None)
    retraining.notice(log.pipeline, known_models.Known("credit", "2"), Previous("1"))
    assert [record["audit.failed"] for record in log.of(KIND)] == [True]
