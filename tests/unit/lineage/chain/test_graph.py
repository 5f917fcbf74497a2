from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.lineage_story import DATA, HOLDOUT, NEW, OLD, REGIONS, lineage, model, tell
from tests.trail import MemoryTrail, Story

from mlaudit.catalog.names import KINDS, ML_MODEL_SAVED, ML_PREDICTION, ML_TRAINING_EVALUATED
from mlaudit.lineage.ask import kinds, trace
from mlaudit.lineage.chain.nodes import NAMED, Lineage, Node, Stage


def only(told: Lineage, stage: Stage) -> Node:
    """The one node of a stage."""
    (node,) = told.of(stage)
    return node


def edges(told: Lineage, kind: str) -> set[tuple[str, str]]:
    """The edges of a kind."""
    return {(edge.source, edge.target) for edge in told.edges if edge.kind == kind}


def test_kinds_are_of_the_catalog() -> None:
    """Every queried kind is in the catalog."""
    assert {*kinds.RUNS, ML_TRAINING_EVALUATED, *kinds.DATA, *kinds.NAMING} <= set(KINDS)


def test_every_link_of_the_chain() -> None:
    """From the data to the predictions, each link follows from the ids and digests of the records alone."""
    told = lineage(tell())

    assert edges(told, "trained_on") == {(f"data/sha256/{DATA}", "run/fit-3")}
    assert edges(told, "measured_on") == {(f"data/sha256/{HOLDOUT}", f"metrics/fit-3/{HOLDOUT[:16]}/score")}
    assert {("run/study-of-3", "run/trial-3"), ("run/trial-3", "run/fit-3")} <= edges(told, "part_of")
    assert edges(told, "made") == {("run/fit-3", f"artifact/{NEW}")}
    assert edges(told, "approved") == {("approval/credit-risk:3@champion", f"artifact/{NEW}")}
    assert edges(told, "deployed") == {(f"artifact/{NEW}", "deployment/loan-scoring/credit-risk")}
    assert ("deployment/loan-scoring/credit-risk", "predictions/loan-scoring") in edges(told, "answered")
    counted = {node.facts["service"]: node.facts["count"] for node in told.of(Stage.PREDICTIONS)}
    assert counted == {"loan-scoring": 20, "nightly-batch": 2}


def test_what_was_read_beside_the_run_is_no_proof() -> None:
    """A read of the same process with another digest is shown as circumstantial."""
    told = lineage(tell())

    (near,) = [edge for edge in told.edges if not edge.proven]
    assert (near.source, near.target, near.kind) == (f"data/sha256/{REGIONS}", "run/fit-3", "read_before")


def test_what_was_read_after_the_run_is_not_told() -> None:
    """A read that came later, or in another process, is not linked to the run."""
    story = tell()
    story.tell("audit.data.read", ml__dataset__name="/data/later.csv", ml__dataset__operation="read_csv")
    story.tell("audit.data.read", service="other", ml__dataset__name="/data/other.csv")

    assert len(lineage(story).of(Stage.DATA)) == 3


def test_replaced_version() -> None:
    """A replaced version names its successor, and has none of the successor's runs and predictions."""
    told = lineage(tell(), "credit-risk:2")

    deployment = only(told, Stage.DEPLOYMENT)
    assert (deployment.facts["state"], deployment.facts["replaced_by"]) == ("replaced", "3")
    assert only(told, Stage.ARTIFACT).facts["digest"] == OLD
    assert told.of(Stage.PREDICTIONS) == []
    run = only(told, Stage.RUN)
    assert (run.status, run.gap) == (NAMED, "run run-of-2 is named, but no record of it was found")


def test_gaps_are_told() -> None:
    """Missing parts of the chain are listed: whole stages and single records."""
    story = Story()
    story.tell("audit.ml.prediction", ml__model__name="old", ml__model__version="1")

    told = lineage(story, "old")

    texts = {gap.stage: gap.text for gap in told.gaps}
    assert set(texts) == set(Stage) - {Stage.PREDICTIONS}
    assert texts[Stage.ARTIFACT] == "it is named, but no record of a save or registration was found"
    assert texts[Stage.RUN] == "no record names the run that made it"
    assert "no record of a load or deployment" in texts[Stage.DEPLOYMENT]


def test_run_without_an_end() -> None:
    """A run without an end record is a gap, and its model is still shown."""
    story = Story()
    story.tell("audit.ml.training.started", ml__training__run_id="r", ml__training__method="fit")
    story.tell("audit.ml.model.saved", **model("1", NEW), ml__training__run_id="r")

    run = only(lineage(story), Stage.RUN)

    assert (run.facts["state"], run.gap) == ("started", "run r started, but no record of its end was found")


def test_failed_records_make_nothing() -> None:
    """A failed save, promotion or deployment adds no artifact, approval or deployment."""
    story = Story()
    told = story.tell
    told("audit.ml.model.saved", **model("1", NEW), outcome="failure", ml__training__run_id="r")
    told("audit.ml.model.promoted", **model("1", NEW), outcome="failure", ml__registry__alias="champion")
    told(
        "audit.ml.deployment.started",
        **model("1", NEW),
        outcome="failure",
        ml__deployment__id="s/credit-risk",
    )

    found = lineage(story, "credit-risk:1")

    assert only(found, Stage.ARTIFACT).status == NAMED
    assert only(found, Stage.APPROVAL).facts["state"] == "refused"
    assert only(found, Stage.DEPLOYMENT).facts["state"] == "failed"
    with pytest.raises(Exception, match="found 'champion'"):
        lineage(story, "credit-risk@champion")


def test_ended_and_started_again() -> None:
    """A deployment has the state of its last record, with the reason of its end."""
    story = tell()
    serving = {"service": "loan-scoring", "ml.deployment.id": "loan-scoring/credit-risk", **model("3", NEW)}
    story.tell("audit.ml.deployment.ended", **serving, event__reason="the service stopped")
    ended = lineage(story).of(Stage.DEPLOYMENT)[0].facts
    story.tell("audit.ml.deployment.started", **serving)
    again = lineage(story).of(Stage.DEPLOYMENT)[0].facts

    assert (ended["state"], ended["reason"]) == ("ended", "the service stopped")
    assert again["state"] == "serving"
    assert "reason" not in again
    assert "until" not in again


def test_ticket_of_a_deployment_is_an_approval() -> None:
    """Without an alias, the change ticket of the deployment counts as the approval."""
    story = Story()
    story.tell("audit.ml.model.saved", **model("1", NEW))
    change = {"ml.change.ticket": "CHG-1", "ml.change.approver": "bob"}
    story.tell("audit.ml.deployment.started", **model("1", NEW), **change, ml__deployment__id="s/credit-risk")

    facts = only(lineage(story), Stage.APPROVAL).facts

    assert (facts["ticket"], facts["approver"]) == ("CHG-1", "bob")


def test_one_name_for_two_artifacts() -> None:
    """Two hosts that count versions each for themselves: both artifacts are shown, and a digest selects one."""
    story = Story()
    story.tell("audit.ml.model.saved", **model("1", OLD), ml__training__run_id="one")
    story.tell("audit.ml.model.saved", **model("1", NEW), ml__training__run_id="two")

    both, one = lineage(story), lineage(story, f"credit-risk:{OLD[:8]}")

    assert {node.facts["digest"] for node in both.of(Stage.ARTIFACT)} == {OLD, NEW}
    assert both.notes[0].startswith("2 different artifacts are called credit-risk:1")
    assert [node.facts["run_id"] for node in one.of(Stage.RUN)] == ["one"]
    assert one.notes == ()


def test_other_name_of_the_same_artifact() -> None:
    """A registry's name for the same bytes belongs to the artifact, also if a record there names no digest."""
    story = Story()
    story.tell("audit.ml.model.saved", **model("1", NEW))
    story.tell(
        "audit.ml.model.registered", ml__model__name="risk", ml__model__version="7", ml__model__digest=NEW
    )
    alias = {"ml.registry.alias": "champion", "ml.registry.after": "7"}
    story.tell("audit.ml.model.promoted", ml__model__name="risk", ml__model__version="7", **alias)
    story.tell("audit.ml.model.promoted", ml__model__name="risk", ml__model__version="6", **alias)

    told = lineage(story, "credit-risk")

    assert only(told, Stage.ARTIFACT).facts["also"] == ["risk:7"]
    assert only(told, Stage.APPROVAL).facts["version"] == "7"


def test_run_that_holds_the_training() -> None:
    """The data of a fit within the registered run is the data of the model."""
    story = Story()
    run = {"ml.training.run_id": "outer", "ml.training.method": "run"}
    fit = {"ml.training.run_id": "inner", "ml.training.parent_run_id": "outer", "ml.dataset.digest": DATA}
    story.tell("audit.ml.training.started", **run)
    story.tell("audit.ml.training.completed", **fit, ml__training__method="fit")
    story.tell("audit.ml.training.completed", **run)
    story.tell(
        "audit.ml.model.registered", ml__model__name="m", ml__model__version="1", ml__training__run_id="outer"
    )

    told = lineage(story, "m")

    assert edges(told, "trained_on") == {(f"data/sha256/{DATA}", "run/inner")}
    assert edges(told, "part_of") == {("run/outer", "run/inner")}
    assert only(told, Stage.ARTIFACT).id == "artifact/m:1"


def test_read_within_the_run_and_of_the_same_place() -> None:
    """Reads are tied to a run by its id, and to its data by the place."""
    story = Story()
    run = {"ml.training.run_id": "r", "ml.training.method": "fit"}
    story.tell("audit.data.read", **{"ml.training.run_id": "r", "ml.dataset.name": "/in/run.csv"})
    story.tell("audit.data.read", service="other", ml__dataset__uri="s3://bucket/loans")
    story.tell(
        "audit.ml.training.completed", **run, ml__dataset__digest=DATA, ml__dataset__uri="s3://bucket/loans"
    )
    story.tell("audit.ml.model.saved", **model("1", NEW), ml__training__run_id="r")

    told = lineage(story)

    assert edges(told, "read_in") == {("data/place//in/run.csv", "run/r")}
    given = next(node for node in told.of(Stage.DATA) if node.facts.get("digest") == DATA)
    assert (given.status, given.facts["reads"]) == ("seen", 1)


def test_repeated_evaluation_is_one_node() -> None:
    """Of evaluations on the same data the last values are shown, and which metrics vary."""
    story = tell()
    again = {"ml.training.run_id": "fit-3", "ml.training.method": "score", "ml.dataset.digest": HOLDOUT}
    story.tell(
        "audit.ml.training.evaluated", **again, ml__training__metrics={"accuracy": 0.5, "roc_auc": 0.9912}
    )
    story.tell(
        "audit.ml.training.evaluated", **again, outcome="failure", ml__training__metrics={"accuracy": 0.1}
    )

    (node,) = [node for node in lineage(story).of(Stage.METRICS) if node.title == "score"]

    assert node.facts["metrics"]["accuracy"] == 0.5
    assert (node.facts["varying"], node.facts["evaluations"], node.facts["failed"]) == (["accuracy"], 3, 1)


def test_unsealed_and_altered_records_are_counted() -> None:
    """Unsealed and altered records are counted for the node and in total."""
    records = tell().records
    records = [
        replace(one, sealed=one.kind != ML_PREDICTION, fault="odd" * (one.kind == ML_MODEL_SAVED))
        for one in records
    ]
    story = Story()
    story.records = records

    told = lineage(story)

    assert (told.unsealed, told.faults) == (22, 1)
    assert told.of(Stage.PREDICTIONS)[0].unsealed == 20
    assert only(told, Stage.ARTIFACT).faults == 1


def test_model_without_a_version() -> None:
    """A model that was never saved is shown by its name."""
    story = Story()
    story.tell("audit.ml.prediction", ml__model__name="KMeans", ml__prediction__rows=3)
    story.tell("audit.ml.prediction", ml__model__name="KMeans", ml__model__version="1")

    told = lineage(story, "KMeans")
    assert told.label == "KMeans:1"
    story.records.pop()
    told = lineage(story, "KMeans")
    assert (told.label, only(told, Stage.PREDICTIONS).facts["rows"]) == ("KMeans", 3)


def test_time_bounds_what_it_was_used_for() -> None:
    """Loads and predictions outside of the window are excluded; the records of how the model was made are not."""
    told = lineage(tell(), since="2026-11-25T04:00:00.000000000Z")

    assert told.of(Stage.PREDICTIONS) == []
    assert only(told, Stage.ARTIFACT).status == "seen"


@pytest.mark.parametrize("length", [1, 2, 3, 50])
def test_circle_of_parents_ends(length: int) -> None:
    """Runs that name each other as their parents are shown once, and the traversal ends."""
    story = Story()
    for number in range(length):
        parent = {"ml.training.parent_run_id": f"run-{(number + 1) % length}"}
        story.tell("audit.ml.training.completed", ml__training__run_id=f"run-{number}", **parent)
    story.tell("audit.ml.model.saved", **model("1", NEW), ml__training__run_id="run-0")
    trail = MemoryTrail(story.records)

    told = lineage(story)

    assert 1 <= len(told.of(Stage.RUN)) <= length
    assert trail.asked < 200


def test_what_lies_beyond_a_bound_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reached limit is a note, and runs that were not fetched are counted."""
    monkeypatch.setattr(trace, "CHILDREN", 10)
    monkeypatch.setattr(trace, "NEARBY", 1)

    told = lineage(tell(30))

    # The last ten trials are nodes; of their fits only the best one's belongs to the model.
    assert told.more_runs == {"run/study-of-3": 20}
    assert any("reads came before the end of the run" in note for note in told.notes)


ODD: list[Any] = [None, True, 3, -2.5, [], ["x"], {}, {"a": {"b": 1}}, "\ud800", "x" * 5000]


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:12])
def test_fields_of_any_type(value: Any) -> None:
    """A record whose fields do not match the catalog causes no error."""
    story = tell(1)
    for record in tell(1).records:
        fields = {
            name.replace(".", "__"): value
            for name in record.fields
            if name.startswith(("ml.", "labels", "event."))
        }
        fields.pop("event__outcome", None)
        odd = story.tell(record.kind, **fields)
        story.records[-1] = replace(
            odd, fields={**odd.fields, "ml.model.name": "credit-risk", "ml.model.digest": NEW}
        )

    assert lineage(story, "credit-risk:3").of(Stage.ARTIFACT)
