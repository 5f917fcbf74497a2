"""The life cycle of ``credit-risk``, twice: a small one with every kind of record, and one with many trials."""

from __future__ import annotations

import json
from hashlib import sha256
from importlib.resources import files
from typing import Any

from tests.trail import MemoryTrail, Story

from mlaudit.lineage.ask.reference import choose
from mlaudit.lineage.ask.trace import trace
from mlaudit.lineage.chain.graph import build
from mlaudit.lineage.chain.nodes import Lineage


def digest(text: str) -> str:
    """A digest from a short name."""
    return sha256(text.encode()).hexdigest()


DATA, TARGET, REGIONS, HOLDOUT = digest("data"), digest("target"), digest("regions"), digest("hold-out")
OLD, NEW = digest("version 2"), digest("version 3")
MODEL = {"ml.model.name": "credit-risk"}
CLASS = {
    "ml.model.class": "sklearn.linear_model._logistic.LogisticRegression",
    "ml.model.library": "scikit-learn",
    "ml.model.library_version": "1.7.2",
}
SCHEMA = json.loads((files("mlaudit.lineage") / "lineage.schema.json").read_text(encoding="utf-8"))
PATH = "/models/credit-risk.joblib"


def model(version: str, artifact: str) -> dict[str, Any]:
    """Name, version and digest."""
    return {**MODEL, "ml.model.version": version, "ml.model.digest": artifact}


def tell(trials: int = 4) -> Story:
    """From the data to the predictions of version 3, which took the place of version 2."""
    story = Story()
    told = story.tell
    told("audit.ml.model.saved", **model("2", OLD), ml__model__path=PATH, ml__training__run_id="run-of-2")
    serving = {"service": "loan-scoring", "ml.deployment.id": "loan-scoring/credit-risk"}
    told("audit.ml.deployment.started", **serving, **model("2", OLD))
    told(
        "audit.data.read",
        **{
            "ml.dataset.operation": "read_parquet",
            "ml.dataset.name": "/data/loans.parquet",
            "ml.dataset.uri": "file:///data/loans.parquet",
            "ml.dataset.format": "parquet",
            "ml.dataset.rows": 1500,
            "ml.dataset.columns": 12,
            "ml.dataset.bytes": 48211,
            "ml.dataset.digest": DATA,
            "ml.dataset.purpose": "monthly retraining",
        },
    )
    told(
        "audit.data.read",
        **{
            "ml.dataset.operation": "read_csv",
            "ml.dataset.name": "/data/regions.csv",
            "ml.dataset.format": "csv",
            "ml.dataset.rows": 12,
            "ml.dataset.digest": REGIONS,
        },
    )
    study = {
        "ml.training.run_id": "study-of-3",
        "ml.training.method": "study",
        "ml.experiment.name": "credit-risk",
    }
    told("audit.ml.tuning.started", **study)
    for number in range(trials):
        _trial(story, number)
    told(
        "audit.ml.tuning.completed",
        **study,
        **{
            "ml.training.candidates": trials,
            "ml.training.best_score": 0.9 + (trials - 1) / 1000,
            "ml.training.best_parameters": {"C": 0.1 * trials},
            "ml.training.duration": 41_000_000_000,
        },
    )
    best = f"fit-{trials - 1}"
    told(
        "audit.ml.training.evaluated",
        **{
            **CLASS,
            "ml.model.name": "LogisticRegression",
            "ml.training.run_id": best,
            "ml.training.method": "score",
            "ml.training.metrics": {"accuracy": 0.9733, "roc_auc": 0.9912},
            "ml.dataset.digest": HOLDOUT,
            "ml.dataset.rows": 450,
            "ml.dataset.columns": 12,
        },
    )
    made = {**model("3", NEW), **CLASS, "ml.model.path": PATH, "ml.training.run_id": best}
    told("audit.ml.model.saved", **made, labels={"bytes": "1431"})
    previous = {"ml.model.previous.version": "2", "ml.model.previous.digest": OLD}
    told("audit.ml.model.retrained", **made, **previous)
    told(
        "audit.ml.model.promoted",
        service="registry",
        **{
            **MODEL,
            "ml.model.version": "3",
            "audit.actor.id": "carol",
            "ml.registry.name": "mlflow",
            "ml.registry.alias": "champion",
            "ml.registry.before": "2",
            "ml.registry.after": "3",
            "ml.change.ticket": "CHG-2041",
            "ml.change.approver": "bob",
        },
    )
    loaded = {"ml.model.path": PATH, "ml.model.registration": "match"}
    told("audit.ml.model.loaded", service="loan-scoring", **model("3", NEW), **loaded)
    told(
        "audit.ml.deployment.replaced",
        **serving,
        **model("3", NEW),
        **previous,
        ml__change__ticket="CHG-2041",
    )
    for number in range(20):
        outcome = "failure" if number % 10 == 9 else "success"
        asked = {"audit.actor.id": f"user-{number % 7}", "ml.prediction.rows": 2}
        told("audit.ml.prediction", service="loan-scoring", outcome=outcome, **model("3", NEW), **asked)
    for _ in range(2):
        told("audit.ml.prediction", service="nightly-batch", **model("3", NEW), ml__prediction__rows=20_000)
    return story


def _trial(story: Story, number: int) -> None:
    parameters = {"C": 0.1 * (number + 1), "max_iter": 200, "solver": "lbfgs"}
    fit = {
        **CLASS,
        "ml.model.name": "LogisticRegression",
        "ml.training.run_id": f"fit-{number}",
        "ml.training.parent_run_id": f"trial-{number}",
        "ml.training.method": "fit",
        "ml.training.parameters": parameters,
        "ml.dataset.digest": DATA,
        "ml.dataset.target.digest": TARGET,
        "ml.dataset.rows": 1500,
        "ml.dataset.columns": 12,
    }
    story.tell("audit.ml.training.started", **fit)
    story.tell("audit.ml.training.completed", **fit, ml__training__duration=1_840_000_000)
    story.tell(
        "audit.ml.tuning.trial",
        **{
            "ml.training.run_id": f"trial-{number}",
            "ml.training.parent_run_id": "study-of-3",
            "ml.training.method": "trial",
            "ml.training.trial.number": number,
            "ml.training.trial.state": "pruned" if number % 4 == 2 else "complete",
            "ml.training.parameters": {"C": parameters["C"]},
            "ml.training.metrics": {"value": 0.9 + number / 1000},
        },
    )


def hostile(text: str) -> Story:
    """A story in which every name that an outsider can choose is the given one."""
    story = tell(3)
    run = {"ml.training.run_id": f"run {text}", "ml.training.method": text, "ml.model.class": text}
    story.tell("audit.data.read", ml__dataset__name=text, ml__dataset__uri=text, ml__dataset__digest=text)
    story.tell(
        "audit.ml.training.started", **run, ml__training__parameters={text: text}, ml__dataset__digest=text
    )
    story.tell("audit.ml.training.completed", **run, ml__training__metrics={text: text, "ok": 1.5})
    story.tell(
        "audit.ml.model.saved",
        **model("9", text),
        ml__training__run_id=run["ml.training.run_id"],
        ml__model__path=text,
    )
    change = {"ml.change.ticket": text, "ml.change.approver": text}
    promoted = {"ml.registry.alias": text, "ml.registry.after": "9"}
    story.tell("audit.ml.model.promoted", **model("9", text), **promoted, **change, audit__actor__id=text)
    story.tell("audit.ml.deployment.started", service=text, **model("9", text), ml__deployment__id=text)
    story.tell("audit.ml.prediction", service=text, **model("9", text))
    return story


def lineage(story: Story, asked: str = "credit-risk", since: str = "", until: str = "") -> Lineage:
    """The lineage of a story."""
    trail = MemoryTrail(story.records)
    return build(trace(trail, choose(trail, asked), since, until))
