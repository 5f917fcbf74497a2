"""The lineage of what the hooks record: real libraries, the real pipeline, no cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import mlflow
import numpy as np
import optuna
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from tests.lineage_story import lineage
from tests.trail import Story, record

import mlaudit
from mlaudit.lineage.chain.nodes import Lineage, Stage
from mlaudit.testing import AuditLog

ROWS = np.arange(60.0).reshape(20, 3)
LABELS = np.array([0, 1] * 10)


def recorded(log: AuditLog, asked: str) -> Lineage:
    """The lineage in the records."""
    story = Story()
    story.records = [record(fields) for fields in log.records]
    return lineage(story, asked)


def kinds(found: Lineage) -> set[str]:
    """The links that were found."""
    return {edge.kind for edge in found.edges if edge.proven}


def test_trained_saved_loaded_and_asked(hooked: Any, tmp_path: Path) -> None:
    """A model's life in scikit-learn and joblib is one chain without a word in the program."""
    with hooked("sklearn", "joblib") as log:
        fitted = LogisticRegression().fit(ROWS, LABELS)
        fitted.score(ROWS[:6], LABELS[:6])
        joblib.dump(fitted, tmp_path / "risk.joblib")
        joblib.load(tmp_path / "risk.joblib").predict(ROWS[:4])

    found = recorded(log, "risk:1")

    assert {"trained_on", "measured", "measured_on", "made", "answered"} <= kinds(found)
    (artifact,) = found.of(Stage.ARTIFACT)
    assert (artifact.status, artifact.facts["model_class"].rpartition(".")[2]) == (
        "seen",
        "LogisticRegression",
    )
    (predictions,) = found.of(Stage.PREDICTIONS)
    assert (predictions.facts["count"], predictions.facts["rows"]) == (1, 4)
    assert found.faults == found.unsealed == 0


def test_search_within_a_stated_run(hooked: Any, tmp_path: Path) -> None:
    """The run that a program states holds the search, and its data is the model's."""
    with hooked("sklearn", "joblib") as log:
        with mlaudit.training_run("risk", dataset="loans-2026-11") as run:
            search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(ROWS, LABELS)
        joblib.dump(search.best_estimator_, tmp_path / "risk.joblib")

    found = recorded(log, "risk")

    assert "part_of" in kinds(found)
    runs = {node.facts["run_id"]: node for node in found.of(Stage.RUN)}
    assert runs[run.run_id].facts["method"] == "run"
    (searched,) = (node for node in runs.values() if node.facts["method"] == "search")
    assert searched.facts["candidates"] == 2
    assert "loans-2026-11" in {node.facts.get("name") for node in found.of(Stage.DATA)}


def test_retrained_model_names_the_one_before(hooked: Any, tmp_path: Path) -> None:
    """Two versions saved at one place are two lineages, the second of which names the first."""
    with hooked("sklearn", "joblib") as log:
        for strength in (0.1, 1.0):
            joblib.dump(LogisticRegression(C=strength).fit(ROWS, LABELS), tmp_path / "risk.joblib")

    first, second = recorded(log, "risk:1"), recorded(log, "risk:2")

    assert set(first.digests).isdisjoint(second.digests)
    (artifact,) = second.of(Stage.ARTIFACT)
    assert (artifact.facts["previous_version"], artifact.facts["previous_digest"]) == ("1", first.digests[0])
    assert {node.id for node in first.of(Stage.RUN)}.isdisjoint(node.id for node in second.of(Stage.RUN))


@pytest.mark.usefixtures("store")
@pytest.mark.filterwarnings("ignore")
def test_tracked_tuned_and_registered(hooked: Any, tmp_path: Path) -> None:
    """pandas, Optuna, scikit-learn and MLflow around each other: one chain from the file to the answers of champion."""
    name = f"credit-{tmp_path.name}"
    pd.DataFrame(ROWS, columns=list("abc")).assign(label=LABELS).to_csv(tmp_path / "loans.csv", index=False)
    with hooked("mlflow", "optuna", "pandas", "sklearn") as log:
        loans = pd.read_csv(tmp_path / "loans.csv")
        rows, labels = loans[list("abc")], loans["label"]
        with mlflow.start_run() as run:

            def objective(trial: optuna.Trial) -> float:
                fitted = LogisticRegression(C=trial.suggest_float("C", 0.1, 1.0)).fit(rows, labels)
                return float(fitted.score(rows, labels))

            study = optuna.create_study(direction="maximize")
            study.optimize(objective, n_trials=3)
            best = LogisticRegression(**study.best_params).fit(rows, labels)
            mlflow.log_metric("accuracy", best.score(rows, labels))
            mlflow.sklearn.log_model(best, "model", registered_model_name=name)
        mlflow.MlflowClient().set_registered_model_alias(name, "champion", "1")
        mlflow.sklearn.load_model(f"models:/{name}@champion").predict(rows)

    found = recorded(log, f"{name}@champion")

    assert {"trained_on", "part_of", "measured", "made", "approved", "answered"} <= kinds(found)
    runs = {node.facts["run_id"]: node for node in found.of(Stage.RUN)}
    assert runs[run.info.run_id].id in found.path
    methods = [node.facts["method"] for node in runs.values()]
    assert (methods.count("study"), methods.count("trial"), methods.count("fit")) == (1, 3, 4)
    assert {edge.target for edge in found.edges if edge.kind == "made"} == {f"artifact/{found.digests[0]}"}
    (near,) = {edge.source for edge in found.edges if not edge.proven}
    files = {node.id: node.facts.get("name", "") for node in found.of(Stage.DATA)}
    assert files[near].endswith("loans.csv")
    (approval,) = found.of(Stage.APPROVAL)
    assert (approval.facts["alias"], approval.facts["state"]) == ("champion", "current")
    (predictions,) = found.of(Stage.PREDICTIONS)
    assert predictions.facts["rows"] == len(ROWS)
