"""pickle: models that the program itself saves and loads."""

from __future__ import annotations

import gzip
import hashlib
import io
import multiprocessing.reduction
import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

from mlaudit.capture.libraries import pickle as module
from mlaudit.capture.libraries.pickle import PickleIntegration
from mlaudit.capture.models import known_models
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.testing import AuditLog

SAVED, LOADED = "audit.ml.model.saved", "audit.ml.model.loaded"
Hooked = Callable[..., AbstractContextManager[AuditLog]]
REFUSE = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: first, reason: test, sections: [3]}]
rules: [{name: strict, level: metadata, on_failure: refuse}]
"""


class Own(ClassifierMixin, BaseEstimator):
    """A model whose pickle names no known library at its beginning."""

    def predict(self, X: Any) -> Any:  # noqa: N803
        return X


@pytest.fixture
def log(hooked: Hooked) -> Iterator[AuditLog]:
    """The records under the built-in policy."""
    with hooked("pickle", "joblib", "pandas") as log:
        yield log


@pytest.fixture
def model() -> LogisticRegression:
    """A fitted one."""
    return LogisticRegression(C=0.5).fit([[0.0], [1.0]], [0, 1])


def sha256(content: bytes) -> str:
    """Of bytes."""
    return hashlib.sha256(content).hexdigest()


def test_a_model_in_a_file_is_recorded_with_its_digest(
    log: AuditLog, model: LogisticRegression, tmp_path: Path
) -> None:
    """As joblib's are: saved, registered, loaded and compared."""
    path = tmp_path / "credit.pkl"
    with path.open("wb") as file:
        pickle.dump(model, file)
    with path.open("rb") as file:
        loaded = pickle.load(file)
    (saved,), (found,) = log.of(SAVED), log.of(LOADED)
    assert saved["ml.model.digest"] == found["ml.model.digest"] == sha256(path.read_bytes())
    assert saved["ml.model.path"] == found["ml.model.path"] == str(path)
    assert saved["ml.model.class"] == "sklearn.linear_model.LogisticRegression"
    assert saved["ml.model.parameters"]["C"] == "0.5"
    assert found["ml.model.registration"] == "match"
    assert known_models.lookup(loaded).digest == saved["ml.model.digest"]


def test_a_model_in_bytes_is_recorded_with_their_digest(log: AuditLog, model: LogisticRegression) -> None:
    """They have no path to be registered under."""
    content = pickle.dumps(model)
    assert isinstance(pickle.loads(content), LogisticRegression)
    (saved,), (found,) = log.of(SAVED), log.of(LOADED)
    assert saved["ml.model.digest"] == found["ml.model.digest"] == sha256(content)
    assert saved["ml.model.path"] == "<memory>"
    assert found["ml.model.registration"] == "unregistered"


def test_an_own_class_is_recognised_when_it_has_been_loaded(log: AuditLog, tmp_path: Path) -> None:
    """Its pickle names no library at its beginning; in a file, in bytes, and in a list."""
    path = tmp_path / "own.pkl"
    with path.open("wb") as file:
        pickle.dump([Own()], file)
    with path.open("rb") as file:
        pickle.load(file)
    pickle.loads(pickle.dumps(Own()))
    assert len(log.of(SAVED)) == len(log.of(LOADED)) == 2
    assert log.of(LOADED)[0]["ml.model.digest"] == sha256(path.read_bytes())


def test_a_compressed_file_has_no_digest_yet(
    log: AuditLog, model: LogisticRegression, tmp_path: Path
) -> None:
    """What is on the disk is not complete before it is closed; loading it reads what was pickled."""
    with gzip.open(tmp_path / "credit.pkl.gz", "wb") as file:
        pickle.dump(model, file)
    with gzip.open(tmp_path / "credit.pkl.gz", "rb") as file:
        assert isinstance(pickle.load(file), LogisticRegression)
    (saved,), (found,) = log.of(SAVED), log.of(LOADED)
    assert "ml.model.digest" not in saved
    assert found["ml.model.path"] == str(tmp_path / "credit.pkl.gz")


def test_what_is_no_model_leaves_no_record(log: AuditLog, tmp_path: Path) -> None:
    """Of a program's other pickles there may be millions."""
    with (tmp_path / "a.pkl").open("wb") as file:
        pickle.dump({"a": 1}, file)
    with (tmp_path / "a.pkl").open("rb") as file:
        assert pickle.load(file) == {"a": 1}
    assert pickle.loads(pickle.dumps([1, 2])) == [1, 2]
    assert log.kinds() == []


def test_what_libraries_pickle_for_themselves_is_theirs(
    log: AuditLog, model: LogisticRegression, tmp_path: Path
) -> None:
    """A joblib file is joblib's record, pandas' is data, a message between processes is nothing."""
    joblib.dump(model, tmp_path / "a.joblib")
    joblib.load(tmp_path / "a.joblib")
    pd.to_pickle(model, tmp_path / "b.pkl")
    pd.read_pickle(tmp_path / "b.pkl")
    multiprocessing.reduction.ForkingPickler.loads(multiprocessing.reduction.ForkingPickler.dumps(model))
    assert len(log.of(SAVED)) == len(log.of(LOADED)) == 1
    assert {one["ml.model.path"] for one in log.of(LOADED)} == {str(tmp_path / "a.joblib")}


def test_a_model_is_recorded_before_its_pickle_runs(log: AuditLog, tmp_path: Path) -> None:
    """A file that names a library and cannot be loaded is two records: loaded, and failed."""
    (tmp_path / "bad.pkl").write_bytes(b"\x80\x04\x8c\x07sklearn\x8c\x07Missing\x93.")
    with (tmp_path / "bad.pkl").open("rb") as file, pytest.raises(AttributeError):
        pickle.load(file)
    assert [one["event.outcome"] for one in log.of(LOADED)] == ["success", "failure"]


def test_nothing_is_loaded_that_could_not_be_recorded(
    hooked: Hooked, model: LogisticRegression, tmp_path: Path
) -> None:
    """When the policy says refuse; nor is anything saved."""
    content = pickle.dumps(model)
    with hooked("pickle", policy=REFUSE) as log:
        log.fail(SpoolUnavailableError("broken on purpose"))
        with pytest.raises(AuditRefusedError):
            pickle.loads(content)
        file = io.BytesIO()
        with pytest.raises(AuditRefusedError):
            pickle.dump(model, file)
        assert file.getvalue() == b""


def test_a_broken_hook_never_reaches_the_program(
    hooked: Hooked, broken: str, model: LogisticRegression, tmp_path: Path
) -> None:
    """Every call gives what it gave, and the fault is in a record."""
    with hooked("pickle") as log:
        with (tmp_path / "a.pkl").open("wb") as file:
            pickle.dump(model, file)
        with (tmp_path / "a.pkl").open("rb") as file:
            assert isinstance(pickle.load(file), LogisticRegression)
        assert isinstance(pickle.loads(pickle.dumps(model)), LogisticRegression)
        assert any(record.get("audit.failed") for record in log.of(SAVED))
        assert any(record.get("audit.failed") for record in log.of(LOADED))


def test_what_was_hooked_is_as_before() -> None:
    """And can be hooked again; the functions still pickle by their names."""
    before = pickle.load, pickle.loads, pickle.dump, pickle.dumps
    one = PickleIntegration()
    for _ in range(2):
        one.instrument()
        assert pickle.loads is not before[1]
        assert pickle.loads(pickle.dumps(pickle.loads)) is pickle.loads
        one.uninstrument()
        assert (pickle.load, pickle.loads, pickle.dump, pickle.dumps) == before
    assert module.COMPONENT == "capture.libraries.pickle"
