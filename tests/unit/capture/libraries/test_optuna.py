"""Optuna's studies and trials under audit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import optuna
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import mlaudit
from mlaudit.capture.request_context import current_run
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.testing import AuditLog

X, Y = load_iris(return_X_y=True)
STARTED = "audit.ml.tuning.started"
TRIAL = "audit.ml.tuning.trial"
COMPLETED = "audit.ml.tuning.completed"
REFUSE = """
version: 1
revisions: [{number: 1, date: 2026-11-28, changes: first, reason: test, sections: [3]}]
rules:
  - {name: strict, level: metadata, on_failure: refuse}
"""

Hooked = Callable[..., AbstractContextManager[AuditLog]]


@pytest.fixture(autouse=True)
def quiet() -> None:
    """Optuna logs every trial."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture
def log(hooked: Hooked) -> Iterator[AuditLog]:
    """The records of Optuna alone."""
    with hooked("optuna") as found:
        yield found


def study(**settings: Any) -> optuna.Study:
    """A study that always draws the same."""
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1), **settings)


def square(trial: optuna.Trial) -> float:
    """Has its least value at 2."""
    return (trial.suggest_float("x", -10, 10) - 2) ** 2


def test_a_study_is_recorded_with_each_of_its_trials(log: AuditLog) -> None:
    """Started, a record for every trial in order, and completed with the best: one run and its children."""
    found = study(study_name="credit-risk")
    found.optimize(square, n_trials=4)
    assert log.kinds() == [STARTED, TRIAL, TRIAL, TRIAL, TRIAL, COMPLETED]
    (started,), (completed,), trials = log.of(STARTED), log.of(COMPLETED), log.of(TRIAL)
    run = started["ml.training.run_id"]
    assert completed["ml.training.run_id"] == run
    assert started["ml.training.method"] == "study"
    assert started["ml.experiment.name"] == started["audit.target.id"] == "credit-risk"
    assert started["ml.training.directions"] == ["minimize"]
    assert started["ml.training.parameters"] == {
        "sampler": "RandomSampler",
        "pruner": "MedianPruner",
        "n_trials": "4",
    }
    assert started["labels"] == {"library": f"optuna {optuna.__version__}", "storage": "InMemoryStorage"}
    for record, trial in zip(trials, found.trials, strict=True):
        assert record["ml.training.parent_run_id"] == run
        assert record["ml.training.trial.number"] == trial.number
        assert record["ml.training.trial.state"] == "complete"
        assert record["ml.training.parameters"] == {"x": repr(trial.params["x"])}
        assert record["ml.training.metrics"] == {"value": trial.value}
        assert record["audit.target.id"] == f"credit-risk/{trial.number}"
        assert record["event.outcome"] == "success"
        assert record["event.duration"] > 0
    assert len({record["ml.training.run_id"] for record in (*trials, started)}) == 5
    assert completed["ml.training.candidates"] == 4
    assert completed["ml.training.best_score"] == found.best_value
    assert completed["ml.training.best_parameters"] == {"x": repr(found.best_params["x"])}
    assert completed["ml.training.metrics"] == {"trials_complete": 4, "best_trial": found.best_trial.number}
    assert completed["event.outcome"] == "success"


def test_pruned_and_failed_trials_say_so(log: AuditLog) -> None:
    """A pruned trial is no failure; one that raised, or gave no number, is; reported values are summed up."""

    def objective(trial: optuna.Trial) -> float:
        if trial.number == 0:
            for step, value in enumerate((0.5, 0.2, 0.9)):
                trial.report(value, step)
            raise optuna.TrialPruned
        if trial.number == 1:
            raise ValueError("no convergence")
        return float("nan")

    study().optimize(objective, n_trials=3, catch=(ValueError,))
    pruned, failed, strange = log.of(TRIAL)
    assert (pruned["ml.training.trial.state"], pruned["event.outcome"]) == ("pruned", "success")
    assert pruned["ml.training.metrics"] == {
        "intermediate_count": 3,
        "intermediate_first": 0.5,
        "intermediate_last": 0.9,
        "intermediate_min": 0.2,
        "intermediate_max": 0.9,
        "value": 0.9,
    }
    assert (failed["ml.training.trial.state"], failed["event.outcome"]) == ("fail", "failure")
    assert (failed["error.type"], failed["error.message"]) == ("ValueError", "no convergence")
    assert (strange["ml.training.trial.state"], strange["event.outcome"]) == ("fail", "failure")
    (completed,) = log.of(COMPLETED)
    assert completed["ml.training.metrics"] == {"trials_pruned": 1, "trials_fail": 2}
    assert "ml.training.best_score" not in completed


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_that_ends_the_study_is_told_and_raised(log: AuditLog, error: BaseException) -> None:
    """The trial that raised has its record although Optuna calls nobody back for it, and so has the study's end."""

    def objective(trial: optuna.Trial) -> float:
        if trial.number == 1:
            raise error
        return 1.0

    with pytest.raises(type(error)):
        study().optimize(objective, n_trials=5)
    good, bad = log.of(TRIAL)
    assert good["event.outcome"] == "success"
    assert bad["event.outcome"] == "failure"
    assert bad["ml.training.trial.state"] == ("running" if isinstance(error, SystemExit) else "fail")
    (completed,) = log.of(COMPLETED)
    assert completed["event.outcome"] == "failure"
    assert bad["error.type"] == completed["error.type"] == type(error).__name__
    assert completed["ml.training.candidates"] == 2
    assert current_run.get() is None


def test_what_is_trained_in_an_objective_is_a_child_of_its_trial(hooked: Hooked) -> None:
    """A fit names its trial's run, the trial the study's, the study the run around it: one chain, nothing twice."""

    def objective(trial: optuna.Trial) -> float:
        model = LogisticRegression(C=trial.suggest_float("C", 0.01, 1.0), max_iter=500).fit(X, Y)
        return float(model.score(X, Y))

    with hooked("optuna", "sklearn") as log, mlaudit.training_run("iris", dataset="iris-2026") as run:
        study(direction="maximize").optimize(objective, n_trials=3)
    (started,), trials = log.of(STARTED), log.of(TRIAL)
    assert started["ml.training.parent_run_id"] == run.run_id
    fits, scores = log.of("audit.ml.training.completed"), log.of("audit.ml.training.evaluated")
    outer = fits.pop()
    assert outer["ml.training.run_id"] == run.run_id
    assert len(fits) == len(scores) == len(trials) == 3
    for trial, fit, score in zip(trials, fits, scores, strict=True):
        assert trial["ml.training.parent_run_id"] == started["ml.training.run_id"]
        assert fit["ml.training.parent_run_id"] == trial["ml.training.run_id"]
        assert score["ml.training.parent_run_id"] == trial["ml.training.run_id"]
        assert score["ml.training.run_id"] == fit["ml.training.run_id"]
        assert trial["ml.training.metrics"]["accuracy"] == trial["ml.training.metrics"]["value"]
        assert fit["ml.model.name"] == trial["ml.model.name"] == "iris"
        assert fit["ml.dataset.name"] == trial["ml.dataset.name"] == "iris-2026"


def test_threads_of_a_study_know_actor_and_run(hooked: Hooked) -> None:
    """With n_jobs the objective runs in threads without the caller's context: actor and parents are the same there."""
    together = threading.Barrier(2, timeout=60)

    def objective(trial: optuna.Trial) -> float:
        together.wait()
        LogisticRegression(max_iter=500).fit(X, Y)
        return trial.suggest_float("x", 0, 1)

    with hooked("optuna", "sklearn") as log, mlaudit.actor("alice"):
        study().optimize(objective, n_trials=4, n_jobs=2)
    trials, fits = log.of(TRIAL), log.of("audit.ml.training.completed")
    assert sorted(record["ml.training.trial.number"] for record in trials) == [0, 1, 2, 3]
    assert {record["ml.training.parent_run_id"] for record in trials} == {
        log.of(STARTED)[0]["ml.training.run_id"]
    }
    assert {fit["ml.training.parent_run_id"] for fit in fits} == {
        trial["ml.training.run_id"] for trial in trials
    }
    actors = {record["audit.actor.id"] for record in (*trials, *fits, *log.of(STARTED), *log.of(COMPLETED))}
    assert len(actors) == 1
    assert log.of(COMPLETED)[0]["ml.training.metrics"]["trials_complete"] == 4
    assert log.of(COMPLETED)[0]["ml.training.parameters"]["n_jobs"] == "2"


def test_a_study_of_several_objectives_has_a_front_instead_of_a_best(log: AuditLog) -> None:
    """Values are recorded one by one, the completed record counts the trials of the Pareto front."""
    found = study(directions=["minimize", "maximize"])
    found.optimize(lambda trial: (trial.suggest_float("x", 0, 1), trial.suggest_int("n", 1, 9)), n_trials=3)
    first = log.of(TRIAL)[0]
    assert first["ml.training.directions"] == ["minimize", "maximize"]
    assert first["ml.training.metrics"] == {
        "value_0": found.trials[0].values[0],
        "value_1": found.trials[0].values[1],
    }
    (completed,) = log.of(COMPLETED)
    assert completed["ml.training.metrics"]["pareto_trials"] == len(found.best_trials)
    assert "ml.training.best_score" not in completed


def test_stop_callbacks_and_enqueued_trials_work_as_ever(log: AuditLog) -> None:
    """Callbacks of the program see every trial, stop ends the study, a trial that somebody chose is marked."""
    seen: list[int] = []

    def callback(found: optuna.Study, trial: Any) -> None:
        seen.append(trial.number)
        if trial.number == 2:
            found.stop()

    found = study()
    found.enqueue_trial({"x": 2.0})
    found.optimize(square, n_trials=50, callbacks=[callback])
    assert seen == [0, 1, 2]
    chosen, drawn, _ = log.of(TRIAL)
    assert chosen["labels"] == {"enqueued": "true"}
    assert chosen["ml.training.parameters"] == {"x": "2.0"}
    assert "labels" not in drawn
    assert log.of(COMPLETED)[0]["event.reason"] == "Study.stop was called"
    assert log.of(COMPLETED)[0]["ml.training.best_score"] == 0.0


def test_ask_and_tell_are_a_search_too(log: AuditLog) -> None:
    """The first ask begins it, each tell ends a trial, once; what Optuna refuses is not recorded."""
    found = study(study_name="by-hand")
    first, second = found.ask(), found.ask()
    found.tell(second, second.suggest_float("x", 0, 1))
    found.tell(first.number, state=optuna.trial.TrialState.FAIL)
    found.tell(first.number, 3.0, skip_if_finished=True)
    with pytest.raises(ValueError, match="tell"):
        found.tell(second, 1.0)
    (started,) = log.of(STARTED)
    assert started["ml.training.method"] == "ask"
    two, one = log.of(TRIAL)
    assert (two["ml.training.trial.number"], two["ml.training.trial.state"]) == (1, "complete")
    assert (one["ml.training.trial.number"], one["ml.training.trial.state"]) == (0, "fail")
    assert (
        two["ml.training.parent_run_id"] == one["ml.training.parent_run_id"] == started["ml.training.run_id"]
    )
    assert two["event.duration"] > 0
    found.optimize(square, n_trials=1)
    assert len(log.of(TRIAL)) == 3
    assert len(log.of(STARTED)) == 2


def test_a_trial_told_by_another_study_object_is_recorded(log: AuditLog) -> None:
    """A worker may tell what another one asked for: the trial is recorded there, of a run of its own."""
    storage = optuna.storages.InMemoryStorage()
    asked = study(study_name="shared", storage=storage).ask()
    optuna.load_study(study_name="shared", storage=storage).tell(asked.number, 1.0)
    (trial,) = log.of(TRIAL)
    assert trial["ml.training.trial.number"] == 0


def test_the_storage_is_named_without_its_credentials(log: AuditLog, tmp_path: Path) -> None:
    """The URL of a database says where the study is kept, and no password."""
    study(storage=f"sqlite:///{tmp_path}/studies.db?timeout=10").optimize(square, n_trials=1)
    assert log.of(STARTED)[0]["labels"]["storage"] == f"sqlite:///{tmp_path}/studies.db"
    other = study()
    other._storage = type("Storage", (), {"url": "mysql://bob:hunter2@db:3306/studies?password=hunter2"})()
    from mlaudit.capture.models.parameter_search import _storage

    assert _storage(other) == "mysql://db:3306/studies"


def test_a_study_that_cannot_be_recorded_does_not_start(hooked: Hooked) -> None:
    """With on_failure: refuse nothing is tried; a study under way goes on when records fail."""
    tried: list[int] = []

    def objective(trial: optuna.Trial) -> float:
        tried.append(trial.number)
        log.fail(SpoolUnavailableError("full"))
        return 1.0

    with hooked("optuna", policy=REFUSE) as log:
        log.fail(SpoolUnavailableError("full"))
        with pytest.raises(AuditRefusedError):
            study().optimize(objective, n_trials=2)
        assert tried == []
        log.heal()
        found = study()
        found.optimize(objective, n_trials=2)
        log.heal()
        assert len(found.trials) == 2


def test_a_study_inside_of_an_audited_call_belongs_to_it(log: AuditLog) -> None:
    """An estimator that tunes itself is one action of the user: its study is not told beside it."""
    from mlaudit.capture.nesting import inside

    token = inside.set(True)
    study().optimize(square, n_trials=1)
    inside.reset(token)
    assert log.kinds() == []


def test_a_broken_hook_never_reaches_the_study(hooked: Hooked, broken: str) -> None:
    """With every hook broken a study gives what it gave; the fault is in a record."""
    with hooked("optuna") as log:
        found = study()
        found.optimize(square, n_trials=3)
        trial = found.ask()
        found.tell(trial, 1.0)
        assert len(found.trials) == 4
        assert any(record.get("audit.failed") for record in log.of(STARTED))
        assert current_run.get() is None


def test_a_fault_inside_of_a_trial_never_reaches_it(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """What watches objectives and ends of trials may fail: the values are the same."""
    from mlaudit.capture.libraries import optuna as hooks

    def raises(*_: Any, **__: Any) -> Any:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(hooks, "Trial", raises)
    found = study()
    found.optimize(square, n_trials=2)
    assert len(found.trials) == 2
    assert any(record.get("audit.failed") for record in log.of(TRIAL))
    assert log.of(COMPLETED)


def test_uninstrumented_it_is_optunas_own(log: AuditLog) -> None:
    """The originals come back."""
    from mlaudit.capture.libraries.optuna import OptunaIntegration

    OptunaIntegration().uninstrument()
    assert "/mlaudit/capture/" not in optuna.Study.optimize.__code__.co_filename
    study().optimize(square, n_trials=1)
    assert log.kinds() == []
