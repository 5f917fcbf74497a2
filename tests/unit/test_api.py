"""The public functions: what they record, and that they never stand in the way."""

from __future__ import annotations

import asyncio
import contextvars
import math
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import mlaudit
from mlaudit.capture.request_context import RequestTrail, current_actor, current_request, current_run
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.event import Actor, Target
from mlaudit.pipeline import current
from mlaudit.testing import AuditLog, capture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OWN = "audit.app.report.exported"
STARTED = "audit.ml.training.started"
COMPLETED = "audit.ml.training.completed"
FAILED = "audit.ml.training.failed"
HEAD = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: first, reason: test, sections: [3]}]
"""


@pytest.fixture
def log() -> Iterator[AuditLog]:
    """Records under the built-in policy, without hooks."""
    with capture(instrument=False) as found:
        yield found


@pytest.fixture
def off(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Auditing is off."""
    monkeypatch.delenv("MLAUDIT_ENABLED", raising=False)
    previous = current.install(None)
    yield
    current.install(previous)


def test_record_says_what_it_was_told(log: AuditLog) -> None:
    """Kind, outcome, target, actor, fields and labels are in the record, under the id that is returned."""
    record_id = mlaudit.record(
        OWN,
        outcome="failure",
        target=("report", "fairness"),
        actor="alice",
        fields={"ml.dataset.name": "loans", "labels": {"format": "pdf"}},
        team="risk",
        pages=12,
    )
    (record,) = log.of(OWN)
    assert record["audit.record.id"] == record_id
    assert record["event.outcome"] == "failure"
    assert (record["audit.target.type"], record["audit.target.id"]) == ("report", "fairness")
    assert record["audit.actor.id"] == log.pipeline.policy.pseudonyms.of("alice")
    assert record["ml.dataset.name"] == "loans"
    assert record["labels"] == {"format": "pdf", "team": "risk", "pages": "12"}


@pytest.mark.parametrize(
    ("target", "expected"),
    [("x", ("object", "x")), (("a", "b"), ("a", "b")), (Target("a", "b"), ("a", "b"))],
)
def test_targets(log: AuditLog, target: Any, expected: tuple[str, str]) -> None:
    """A target is a pair, a Target, or a text alone."""
    mlaudit.record(OWN, target=target)
    (record,) = log.of(OWN)
    assert (record["audit.target.type"], record["audit.target.id"]) == expected


def test_inputs_and_outputs_follow_the_level() -> None:
    """Inputs are recorded from level inputs on, outputs at full only."""
    with capture(HEAD + "rules: [{name: a, level: inputs}]", instrument=False) as log:
        mlaudit.record(
            "audit.ml.prediction", inputs={"ml.prediction.input": [1]}, outputs={"ml.prediction.output": [2]}
        )
    record = log.of("audit.ml.prediction")[0]
    assert record["ml.prediction.input"] == [1]
    assert "ml.prediction.output" not in record


def test_nothing_is_returned_for_what_is_not_recorded() -> None:
    """What the policy leaves out has no id."""
    with capture(HEAD + "rules: [{name: a, level: none}]", instrument=False) as log:
        assert mlaudit.record(OWN) is None
        assert log.of(OWN) == []


def _circular() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    "arguments",
    [
        {"fields": {"ml.dataset.name": b"bytes"}},
        {"fields": {"ml.dataset.rows": math.nan}},
        {"fields": {"ml.dataset.name": object()}},
        {"fields": {"ml.training.parameters": _circular()}},
        {"fields": 5},
        {"fields": {"labels": 5}, "a": 1},
        {"target": 5},
        {"target": ("a", "b", "c")},
        {"actor": 5},
        {"outcome": None},
    ],
    ids=lambda case: str(case).partition(" at 0x")[0],
)
def test_wrong_arguments_leave_a_marked_record(log: AuditLog, arguments: dict[str, Any]) -> None:
    """Whatever is passed, the caller goes on, and the trail holds the event at metadata level or as it was meant."""
    mlaudit.record(OWN, **arguments)
    assert [kind for kind in log.kinds() if kind == OWN]


@pytest.mark.parametrize("kind", ["audit.nonsense", "", 5, None])
def test_unknown_kind_is_told(log: AuditLog, kind: Any) -> None:
    """A kind that the catalog does not know leaves a record of the failure."""
    mlaudit.record(kind)
    assert any(record.get("audit.failure.reason") for record in log.records)


def test_failed_sink_is_no_business_of_the_caller(log: AuditLog) -> None:
    """A full disk loses the record, counted, and returns no id; under refuse it raises."""
    log.fail(SpoolUnavailableError("disk full"))
    assert mlaudit.record(OWN) is None
    assert log.pipeline.counts.lost
    with capture(
        HEAD + "rules: [{name: a, level: metadata, on_failure: refuse}]", instrument=False
    ) as strict:
        strict.fail(SpoolUnavailableError("disk full"))
        with pytest.raises(AuditRefusedError):
            mlaudit.record(OWN)
        strict.heal()


def test_actor_holds_for_the_block(log: AuditLog) -> None:
    """Within the block the actor acts, nested ones in turn, and afterwards nobody is stated."""
    with mlaudit.actor("alice", name="Alice", roles=["analyst"]) as alice:
        assert alice == Actor("alice", "user", "Alice", ("analyst",), "context")
        with mlaudit.actor("batch", type="service"):
            mlaudit.record(OWN)
        mlaudit.record(OWN)
    mlaudit.record(OWN)
    records = log.of(OWN)
    assert [record["audit.actor.type"] for record in records] == ["service", "user", "service"]
    assert records[1]["user.roles"] == ["analyst"]
    assert records[2]["audit.actor.method"] == "process"
    assert current_actor.get() is None


def test_actor_in_async_code(log: AuditLog) -> None:
    """Concurrent tasks each have their own actor, across awaits and in threads they start."""
    names = ("alice", "bob")

    async def act(place: int) -> None:
        async with mlaudit.actor(names[place]):
            await asyncio.sleep(0)
            await asyncio.to_thread(mlaudit.record, OWN, place=place)

    async def both() -> None:
        await asyncio.gather(act(0), act(1))

    asyncio.run(both())
    pseudonym = log.pipeline.policy.pseudonyms.of
    for record in log.of(OWN):
        assert record["audit.actor.id"] == pseudonym(names[int(record["labels"]["place"])])


def test_actor_is_told_to_the_request(log: AuditLog) -> None:
    """The request's own record, written after the block, knows the actor stated in it."""
    trail = RequestTrail()
    token = current_request.set(trail)
    with mlaudit.actor("alice"):
        pass
    current_request.reset(token)
    assert trail.actor is not None
    assert trail.actor.id == "alice"


def test_actor_left_in_another_context(log: AuditLog) -> None:
    """A generator dependency that is entered in one thread and left in another raises nothing."""
    stated = mlaudit.actor("alice")
    contextvars.copy_context().run(stated.__enter__)
    stated.__exit__()
    assert current_actor.get() is None


def test_training_run_tells_its_story(log: AuditLog, tmp_path: Path) -> None:
    """Started and completed share id, name, parameters and purpose; metrics and data come with the end."""
    artifact = tmp_path / "fraud.pt"
    artifact.write_bytes(b"weights")
    with mlaudit.training_run(
        "fraud", parameters={"lr": 0.01, "layers": [1, 2]}, purpose="retraining"
    ) as run:
        run.dataset(np.zeros((4, 2)), np.zeros(4), name="loans")
        run.log_metric("loss", 0.5)
        run.log_metric("loss", 0.25)
        run.log_metric("auc", math.nan)
        run.artifact(artifact)
    assert log.kinds() == [STARTED, "audit.ml.model.saved", COMPLETED]
    started, saved, completed = (log.of(kind)[0] for kind in log.kinds())
    assert {record["ml.training.run_id"] for record in (started, saved, completed)} == {run.run_id}
    assert started["ml.training.parameters"] == {"lr": "0.01", "layers": "[1, 2]"}
    assert started["labels"] == {"purpose": "retraining"}
    assert completed["ml.training.metrics"] == {"loss": 0.25, "auc": "nan"}
    assert (completed["ml.dataset.name"], completed["ml.dataset.rows"]) == ("loans", 4)
    assert completed["event.duration"] > 0
    assert saved["ml.model.version"] == "1"
    assert saved["audit.target.id"] == "fraud@1"


@pytest.mark.parametrize(("dataset", "field"), [("loans", "ml.dataset.name"), ([[1.0]], "ml.dataset.digest")])
def test_data_set_by_name_or_as_data(log: AuditLog, dataset: Any, field: str) -> None:
    """The data set may be given as a name or as the data itself, and is known from the start."""
    with mlaudit.training_run("m", dataset=dataset):
        pass
    assert field in log.of(STARTED)[0]


def test_failing_run(log: AuditLog) -> None:
    """An exception ends the run as failed and goes on unchanged."""
    error = ValueError("diverged")
    with pytest.raises(ValueError) as caught, mlaudit.training_run("m") as run:
        run.log_metric("loss", 9.0)
        raise error
    assert caught.value is error
    record = log.of(FAILED)[0]
    assert record["error.type"] == "ValueError"
    assert record["ml.training.metrics"] == {"loss": 9.0}
    assert current_run.get() is None


def test_nested_and_async_runs(log: AuditLog) -> None:
    """A run inside a run names its parent, also in async code."""

    async def train() -> None:
        async with mlaudit.training_run("outer"), mlaudit.training_run("inner"):
            await asyncio.sleep(0)

    asyncio.run(train())
    outer, inner = log.of(STARTED)
    assert inner["ml.training.parent_run_id"] == outer["ml.training.run_id"]


def test_refused_run_does_not_begin() -> None:
    """Under refuse a run that cannot be recorded does not enter its block."""
    with capture(HEAD + "rules: [{name: a, level: metadata, on_failure: refuse}]", instrument=False) as log:
        log.fail(SpoolUnavailableError("disk full"))
        entered = False
        with pytest.raises(AuditRefusedError), mlaudit.training_run("m"):
            entered = True
        assert not entered
        assert current_run.get() is None
        log.heal()


def test_missing_artifact_is_told(log: AuditLog, tmp_path: Path) -> None:
    """An artifact that is not there leaves a marked record, and the run goes on."""
    with mlaudit.training_run("m") as run:
        run.artifact(tmp_path / "missing.pt")
    assert log.of("audit.ml.model.saved")[0]["audit.failed"] is True
    assert COMPLETED in log.kinds()


def test_wrong_use_of_a_run_harms_nobody(log: AuditLog) -> None:
    """Odd metrics, data and parameters do not disturb the training."""
    rude = type("Rude", (), {"__repr__": lambda self: 1 / 0, "__float__": lambda self: 1 / 0})()
    with mlaudit.training_run("m", parameters={"a": rude}, dataset=rude) as run:
        run.log_metric("m", rude)
        run.log_metric("text", "high")  # type: ignore[arg-type]
        run.dataset(rude, rude)
    assert log.of(COMPLETED)[0]["ml.training.metrics"] == {"text": "high"}


def test_off_does_nothing(off: None, tmp_path: Path) -> None:
    """With auditing off every function is a no-op with the same shape."""
    assert mlaudit.record(OWN) is None
    with mlaudit.actor("alice") as who, mlaudit.training_run("m", dataset=[[1.0]]) as run:
        run.log_metric("a", 1.0)
        run.dataset([[1.0]])
        run.artifact(tmp_path / "missing")
        assert who.id == "alice"
        assert run.run_id


def test_off_imports_no_pipeline() -> None:
    """In a process that is not audited the public functions do not even import the pipeline."""
    code = "import mlaudit, sys; mlaudit.record('audit.app.x.y'); print('mlaudit.pipeline.pipeline' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PATH": "/usr/bin"},
    )
    assert result.stdout.strip() == "False"
