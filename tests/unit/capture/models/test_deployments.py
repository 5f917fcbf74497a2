"""Models that a service has ready: started, replaced, ended; once for all of its processes."""

from __future__ import annotations

import gc
import os
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import joblib
import pytest
from sklearn.dummy import DummyClassifier

import mlaudit
from mlaudit.capture import request_context
from mlaudit.capture.libraries.joblib import JoblibIntegration
from mlaudit.capture.models import known_models
from mlaudit.capture.models.deployed import DIED, STOPPED, UNLOADED, Deployed
from mlaudit.capture.models.deployments import Deployments
from mlaudit.capture.models.known_models import Known
from mlaudit.capture.process import lifecycle
from mlaudit.capture.process.liveness import is_alive
from mlaudit.capture.request_context import RequestTrail
from mlaudit.catalog.names import ML_DEPLOYMENT_ENDED, ML_DEPLOYMENT_REPLACED, ML_DEPLOYMENT_STARTED
from mlaudit.errors import SpoolUnavailableError
from mlaudit.pipeline import current
from mlaudit.testing import capture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlaudit.testing import AuditLog

V1 = Known("credit", "1", "a" * 64, "/models/credit.joblib", "run-1")
V2 = Known("credit", "2", "b" * 64, "/models/credit.joblib", "run-2")


class Model:
    """Something that can be loaded."""


@pytest.fixture
def log() -> Iterator[AuditLog]:
    """Records of a service whose change has a ticket and an approver."""
    env = {"MLAUDIT_CHANGE_TICKET": "CHG-1", "MLAUDIT_CHANGE_APPROVER": "bob"}
    with capture(instrument=False, env=env) as found:
        yield found


@pytest.fixture
def process(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Deployments]]:
    """Makes processes of the service, as far as deployments can tell; each serves."""
    monkeypatch.setattr(lifecycle, "serves", lambda: True)
    made: list[Deployments] = []

    def make() -> Deployments:
        made.append(Deployments())
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing shows that this process serves, whatever was imported before."""
    monkeypatch.setattr(lifecycle, "serves", lambda: False)
    monkeypatch.setattr(request_context, "_first_request", [])


def die(process: Deployments) -> None:
    """As a process that is killed: the kernel closes its files, no process records its end."""
    process._shared.after_fork()
    process._recorded.clear()


def test_model_loaded_in_a_service_is_deployed(process: Callable[[], Deployments], log: AuditLog) -> None:
    """The record names the deployment, the version, the digest, the run, ticket and approver, and the service acts."""
    model = Model()
    process().loaded(model, V1)
    (record,) = log.of(ML_DEPLOYMENT_STARTED)
    assert record["ml.deployment.id"] == "test-service/credit"
    assert record["audit.target.id"] == "credit@1"
    assert record["ml.model.digest"] == V1.digest
    assert record["ml.model.path"] == V1.path
    assert record["ml.model.class"].endswith("Model")
    assert record["ml.training.run_id"] == "run-1"
    assert record["ml.change.ticket"] == "CHG-1"
    assert record["ml.change.approver"].startswith("hmac:")
    assert record["audit.actor.type"] == "service"


def test_other_version_under_the_name_replaces(process: Callable[[], Deployments], log: AuditLog) -> None:
    """A swap names both versions and who did it; the old object's end is no end of the deployment."""
    serving = process()
    model = Model()
    serving.loaded(model, V1)
    with mlaudit.actor("alice"):
        other = Model()
        serving.loaded(other, V2)
    del model
    gc.collect()
    serving.catch_up()
    (record,) = log.of(ML_DEPLOYMENT_REPLACED)
    assert (record["ml.model.previous.version"], record["ml.model.version"]) == ("1", "2")
    assert record["ml.model.previous.digest"] == V1.digest
    assert record["ml.model.previous.run_id"] == "run-1"
    assert record["audit.actor.type"] == "user"
    assert log.of(ML_DEPLOYMENT_ENDED) == []
    assert len(log.of(ML_DEPLOYMENT_STARTED)) == 1


def test_model_that_is_gone_ends_its_deployment(process: Callable[[], Deployments], log: AuditLog) -> None:
    """The last object of the artifact ends it, however many there were; a thread hears it from the collector."""
    serving = process()
    models = [Model(), Model()]
    for model in models:
        serving.loaded(model, V1)
    del model
    models.pop()
    serving.catch_up()
    assert log.of(ML_DEPLOYMENT_ENDED) == []
    models.pop()
    serving.catch_up()
    (record,) = log.of(ML_DEPLOYMENT_ENDED)
    assert record["event.reason"] == UNLOADED
    assert record["ml.model.digest"] == V1.digest


def test_collector_may_come_while_the_lock_is_held(process: Callable[[], Deployments], log: AuditLog) -> None:
    """A model that goes while deployments are being written leaves a note, and no thread waits for another."""
    serving = process()
    serving._grace = 0.0
    model: Model | None = Model()
    heard = threading.Event()
    original = serving._forget

    def forget(number: int, moment: int) -> None:
        original(number, moment)
        heard.set()

    serving._forget = forget  # type: ignore[method-assign]
    serving.loaded(model, V1)
    with serving._lock:
        model = None
        gc.collect()
        assert log.of(ML_DEPLOYMENT_ENDED) == []
    assert heard.wait(10)
    assert len(log.of(ML_DEPLOYMENT_ENDED)) == 1


def test_earlier_version_that_stays_answers_again(process: Callable[[], Deployments], log: AuditLog) -> None:
    """When the newer of two loaded versions goes, the service is back at the older one."""
    serving = process()
    old, new = Model(), Model()
    serving.loaded(old, V1)
    serving.loaded(new, V2)
    del new
    serving.catch_up()
    assert [record["ml.model.version"] for record in log.of(ML_DEPLOYMENT_REPLACED)] == ["2", "1"]
    assert log.of(ML_DEPLOYMENT_ENDED) == []


def test_model_loaded_anew_for_every_request_is_one_deployment(
    process: Callable[[], Deployments], log: AuditLog
) -> None:
    """An object that is gone while another of its artifact came is no end; the last one's end has its own time."""
    serving = process()
    for _ in range(3):
        model: Model | None = Model()
        serving.loaded(model, V1)
        model = None
    gc.collect()
    after = time.time_ns()
    serving.catch_up(grace_seconds=60)
    assert log.of(ML_DEPLOYMENT_ENDED) == []
    serving.catch_up()
    assert len(log.of(ML_DEPLOYMENT_STARTED)) == 1
    (record,) = log.of(ML_DEPLOYMENT_ENDED)
    assert datetime.fromisoformat(record["@timestamp"][:26] + "+00:00").timestamp() <= after / 1e9


def test_workers_tell_it_once(process: Callable[[], Deployments], log: AuditLog) -> None:
    """Four workers load, swap and stop: one start, one replacement, one end, recorded by the last."""
    workers = [process() for _ in range(4)]
    models = [Model() for _ in range(8)]
    for worker, model in zip(workers, models[:4], strict=True):
        worker.loaded(model, V1)
    for worker, model in zip(workers, models[4:], strict=True):
        worker.loaded(model, V2)
    for worker in workers:
        assert log.of(ML_DEPLOYMENT_ENDED) == []
        worker.stop()
    assert [
        len(log.of(kind)) for kind in (ML_DEPLOYMENT_STARTED, ML_DEPLOYMENT_REPLACED, ML_DEPLOYMENT_ENDED)
    ] == [1, 1, 1]
    (record,) = log.of(ML_DEPLOYMENT_ENDED)
    assert record["event.reason"] == STOPPED
    assert record["ml.model.version"] == "2"


def test_start_with_another_version_than_last_time_replaces(
    process: Callable[[], Deployments], log: AuditLog
) -> None:
    """A service that stopped with one version and starts with the next has replaced it; with the same, started."""
    for about in (V1, V1, V2):
        serving = process()
        model = Model()
        serving.loaded(model, about)
        serving.stop()
    assert len(log.of(ML_DEPLOYMENT_STARTED)) == 2
    (record,) = log.of(ML_DEPLOYMENT_REPLACED)
    assert record["ml.model.previous.digest"] == V1.digest


def test_killed_process_is_buried_by_the_next(process: Callable[[], Deployments], log: AuditLog) -> None:
    """What a killed process served has ended, and the next start says so, also when it serves nothing itself."""
    serving = process()
    model = Model()
    serving.loaded(model, V1)
    die(serving)
    process().ready()
    (record,) = log.of(ML_DEPLOYMENT_ENDED)
    assert record["event.reason"] == DIED
    assert record["ml.model.digest"] == V1.digest
    assert record["ml.model.name"] == "credit"


def test_killed_worker_beside_living_ones_ends_nothing(
    process: Callable[[], Deployments], log: AuditLog
) -> None:
    """As long as one worker has the model, the service serves it."""
    workers = [process(), process()]
    models = [Model(), Model()]
    for worker, model in zip(workers, models, strict=True):
        worker.loaded(model, V1)
    die(workers[0])
    workers[1].ready()
    assert log.of(ML_DEPLOYMENT_ENDED) == []
    workers[1].stop()
    assert len(log.of(ML_DEPLOYMENT_ENDED)) == 1


@pytest.mark.usefixtures("job")
def test_job_deploys_nothing(log: AuditLog) -> None:
    """A process that does not serve writes none, however many models it loads."""
    job = Deployments()
    model = Model()
    job.loaded(model, V1)
    job.stop()
    assert log.kinds() == []


@pytest.mark.usefixtures("job")
def test_service_that_says_it_is_up_deploys_what_it_loaded(log: AuditLog) -> None:
    """Models loaded before the start-up is complete are recorded with it, the latest of each name."""
    serving = Deployments()
    models = [Model(), Model()]
    serving.loaded(models[0], V1)
    serving.loaded(models[1], V2)
    assert log.kinds() == []
    serving.ready()
    assert [record["ml.model.version"] for record in log.of(ML_DEPLOYMENT_STARTED)] == ["2"]
    assert log.of(ML_DEPLOYMENT_REPLACED) == []
    serving.stop()


@pytest.mark.usefixtures("job")
def test_first_request_shows_that_a_process_serves(log: AuditLog) -> None:
    """Where no server is recognised, the first request records it, once and in addition to the request."""
    serving = Deployments()
    recorded = threading.Event()
    original = serving.ready

    def ready() -> None:
        original()
        recorded.set()

    serving.ready = ready  # type: ignore[method-assign]
    model = Model()
    serving.loaded(model, V1)
    RequestTrail()
    assert recorded.wait(10)
    RequestTrail()
    assert len(log.of(ML_DEPLOYMENT_STARTED)) == 1
    assert request_context._first_request == []
    serving.stop()


def test_forked_worker_joins_its_parent(process: Callable[[], Deployments], log: AuditLog) -> None:
    """A model loaded before the fork is one deployment: the child joins it, and its end is the last one's."""
    parent = process()
    model = Model()
    parent.loaded(model, V1)
    child = process()
    # What the child's copy of the parent's memory holds.
    child._held, child._references = dict(parent._held), dict(parent._references)
    child.after_fork()
    child.ready()
    assert len(log.of(ML_DEPLOYMENT_STARTED)) == 1
    child.stop()
    assert log.of(ML_DEPLOYMENT_ENDED) == []
    parent.stop()
    assert len(log.of(ML_DEPLOYMENT_ENDED)) == 1


def test_fork_keeps_no_mark_alive(process: Callable[[], Deployments], log: AuditLog) -> None:
    """A child that lives on after its parent was killed does not pass for it."""
    parent = process()
    model = Model()
    parent.loaded(model, V1)
    mark = parent._shared._mark
    assert mark is not None
    folder = parent._shared._folder(log.pipeline)
    inherited = os.dup(mark._descriptor)
    die(parent)
    assert is_alive(folder, mark.name)
    os.close(inherited)
    assert not is_alive(folder, mark.name)


def test_hooks_that_load_deploy(process: Callable[[], Deployments], log: AuditLog, tmp_path: Any) -> None:
    """joblib.load in a service is enough: it is recorded under the file's name with the file's digest."""
    known_models.on_loaded(process().loaded)
    integration = JoblibIntegration()
    integration.instrument()
    try:
        joblib.dump(DummyClassifier(), tmp_path / "fraud.joblib")
        model = joblib.load(tmp_path / "fraud.joblib")
    finally:
        integration.uninstrument()
        known_models._listeners.pop()
    (record,) = log.of(ML_DEPLOYMENT_STARTED)
    assert record["ml.deployment.id"] == "test-service/fraud"
    assert record["ml.model.digest"] == known_models.lookup(model).digest


def test_what_cannot_be_referred_to_weakly_ends_with_the_process(
    process: Callable[[], Deployments], log: AuditLog
) -> None:
    """No event reports when such an object is gone: another of its name takes its place, the stop ends it."""
    serving = process()
    serving.loaded({}, V1)
    serving.loaded({}, V2)
    assert len(serving._held) == 1
    serving.stop()
    assert [
        len(log.of(kind)) for kind in (ML_DEPLOYMENT_STARTED, ML_DEPLOYMENT_REPLACED, ML_DEPLOYMENT_ENDED)
    ] == [1, 1, 1]


@pytest.mark.parametrize("work", ["loaded", "ready", "stop"])
def test_fault_reaches_nobody(
    process: Callable[[], Deployments], log: AuditLog, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    """With its memory broken on purpose a service loads, starts and stops, and the trail records the fault."""
    serving = process()
    model = Model()
    if work == "stop":
        serving.loaded(model, V1)

    def fail(*_: Any) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(Deployed, "_memory", fail)
    {"loaded": lambda: serving.loaded(model, V1), "ready": serving.ready, "stop": serving.stop}[work]()
    assert any("RuntimeError" in record.get("audit.failure.reason", "") for record in log.records)


def test_full_disk_and_no_audit_harm_nobody(process: Callable[[], Deployments], log: AuditLog) -> None:
    """Without a place for records, or without auditing, models are loaded as ever."""
    serving = process()
    models = [Model(), Model()]
    log.fail(SpoolUnavailableError("disk full"))
    serving.loaded(models[0], V1)
    log.heal()
    before = current.install(None)
    serving.loaded(models[1], V2)
    serving.ready()
    serving.stop()
    current.install(before)
    assert log.of(ML_DEPLOYMENT_REPLACED) == []
