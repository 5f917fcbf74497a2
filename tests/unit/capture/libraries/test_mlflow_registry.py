"""MLflow's model registry: every change with who made it, and what was before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression

import mlaudit
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.event import new_record_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlaudit.testing import AuditLog

REGISTERED = "audit.ml.model.registered"
PROMOTED = "audit.ml.model.promoted"
DELETED = "audit.ml.model.deleted"
CHANGED = "audit.ml.config.changed"
RETRAINED = "audit.ml.model.retrained"
X = np.array([[0.0], [1.0], [2.0], [3.0]] * 5)
Y = np.array([0, 0, 1, 1] * 5)
REFUSE = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: first, reason: test, sections: [3]}]
rules: [{name: strict, level: metadata, on_failure: refuse}]
"""

pytestmark = [pytest.mark.usefixtures("store"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def log(hooked: Any) -> Iterator[AuditLog]:
    """Records of a process whose changes have a ticket and an approver."""
    env = {"MLAUDIT_CHANGE_TICKET": "CHG-2041", "MLAUDIT_CHANGE_APPROVER": "carol"}
    with hooked("mlflow", "sklearn", env=env) as found:
        yield found


@pytest.fixture
def name() -> str:
    """A model that no other test has."""
    return f"credit-{new_record_id()}"


@pytest.fixture
def client() -> MlflowClient:
    """A client of the store."""
    return MlflowClient()


def make(client: MlflowClient, name: str, versions: int) -> None:
    """A registered model with that many versions."""
    client.create_registered_model(name)
    for _ in range(versions):
        client.create_model_version(name, "s3://user:secret@models/credit")


def test_version_comes_into_the_registry(log: AuditLog, client: MlflowClient, name: str) -> None:
    """Model and version are recorded, with source, run and actor, and once."""
    run = client.create_run("0")
    with mlaudit.actor("alice"):
        client.create_registered_model(name)
        client.create_model_version(name, "s3://user:secret@models/credit", run.info.run_id)
    model, version = log.of(REGISTERED)
    assert model["audit.target.id"] == name
    assert version["audit.target.id"] == f"{name}@1"
    assert version["ml.model.version"] == "1"
    assert version["ml.model.path"] == "s3://models/credit"
    assert version["ml.training.run_id"] == run.info.run_id
    assert version["ml.registry.name"] == "mlflow"
    assert version["audit.actor.type"] == "user"
    assert "secret" not in str(log.records)
    with pytest.raises(Exception, match=r".*"):
        client.create_model_version("no-such-model", "s3://models/x")
    assert log.of(REGISTERED)[-1]["event.outcome"] == "failure"


def test_logged_model_that_is_registered_twice(log: AuditLog, name: str) -> None:
    """From log_model to the registry: digest, run and metrics of the new version beside those of the one before."""
    runs = []
    for c, auc in ((1.0, 0.8), (0.1, 0.9)):
        with mlflow.start_run() as run:
            model = LogisticRegression(C=c).fit(X, Y)
            mlflow.log_input(mlflow.data.from_numpy(X, targets=Y), context="training")
            mlflow.log_metric("auc", auc)
            mlflow.sklearn.log_model(model, "model", registered_model_name=name)
        runs.append(run.info.run_id)
    versions = [record for record in log.of(REGISTERED) if "ml.model.version" in record]
    saved = log.of("audit.ml.model.saved")
    assert [record["ml.training.run_id"] for record in versions] == runs
    assert [record["ml.model.digest"] for record in versions] == [
        record["ml.model.digest"] for record in saved
    ]
    (notice,) = log.of(RETRAINED)
    assert notice["ml.model.name"] == name
    assert (notice["ml.model.previous.version"], notice["ml.model.version"]) == ("1", "2")
    assert notice["ml.model.previous.digest"] == saved[0]["ml.model.digest"]
    assert notice["ml.model.digest"] == saved[1]["ml.model.digest"]
    assert [notice["ml.model.previous.run_id"], notice["ml.training.run_id"]] == runs
    # What the fit inside the run said of itself is beside what was logged, once.
    assert notice["ml.training.metrics"] == {"auc": 0.9, "n_iter": model.n_iter_[0]}
    assert len(notice["ml.dataset.digest"]) == 64
    # The registry says that the model exists already, which is no failure of anybody.
    assert all(record["event.outcome"] == "success" for record in log.of(REGISTERED))


def test_retraining_without_a_logged_data_set(log: AuditLog, name: str) -> None:
    """Where the run says nothing of its data, the training of the logged object inside it does."""
    for c in (1.0, 0.1):
        with mlflow.start_run():
            model = LogisticRegression(C=c).fit(X, Y)
            model.score(X, Y)
            mlflow.sklearn.log_model(model, "model", registered_model_name=name)
    (notice,) = log.of(RETRAINED)
    fits = [
        record for record in log.of("audit.ml.training.completed") if record["ml.training.method"] == "fit"
    ]
    assert notice["ml.dataset.digest"] == fits[1]["ml.dataset.digest"]
    assert "accuracy" in notice["ml.training.metrics"]


def test_alias_is_a_promotion_with_before_and_after(log: AuditLog, client: MlflowClient, name: str) -> None:
    """Set, moved and taken away: each names the version before and after, ticket, approver, actor and run."""
    run = client.create_run("0")
    client.create_registered_model(name)
    for _ in range(2):
        client.create_model_version(name, "s3://models/credit", run.info.run_id)
    with mlaudit.actor("alice"):
        client.set_registered_model_alias(name, "champion", "1")
        client.set_registered_model_alias(name, "champion", "2")
        client.delete_registered_model_alias(name, "champion")
    first, second, third = log.of(PROMOTED)
    assert [record.get("ml.registry.before") for record in (first, second, third)] == [None, "1", "2"]
    assert [record.get("ml.registry.after") for record in (first, second, third)] == ["1", "2", None]
    assert [record["audit.target.id"] for record in (first, second, third)] == [
        f"{name}@1",
        f"{name}@2",
        f"{name}@2",
    ]
    for record in (first, second, third):
        assert record["ml.registry.alias"] == "champion"
        assert record["ml.training.run_id"] == run.info.run_id
        assert record["ml.change.ticket"] == "CHG-2041"
        assert record["ml.change.approver"].startswith("hmac:")
        assert record["audit.actor.type"] == "user"
    with pytest.raises(Exception, match=r".*"):
        client.set_registered_model_alias(name, "champion", "99")
    assert log.of(PROMOTED)[-1]["event.outcome"] == "failure"


def test_stage_is_a_promotion_too(log: AuditLog, client: MlflowClient, name: str) -> None:
    """The stage before and after is recorded, and which version was archived for it."""
    make(client, name, 2)
    client.transition_model_version_stage(name, "1", "Production")
    client.transition_model_version_stage(name, "2", "Production", archive_existing_versions=True)
    changes = [
        (
            one["ml.model.version"],
            one["ml.registry.alias"],
            one["ml.registry.before"],
            one["ml.registry.after"],
        )
        for one in log.of(PROMOTED)
    ]
    assert changes == [
        ("1", "Production", "None", "Production"),
        ("2", "Production", "None", "Production"),
        ("1", "Archived", "Production", "Archived"),
    ]


def test_deletions_name_what_was_deleted(log: AuditLog, client: MlflowClient, name: str) -> None:
    """A version with its aliases and stage, a model with all of its aliases."""
    make(client, name, 2)
    client.set_registered_model_alias(name, "champion", "1")
    client.set_registered_model_alias(name, "shadow", "2")
    client.transition_model_version_stage(name, "1", "Archived")
    client.delete_model_version(name, "1")
    client.delete_registered_model(name)
    version, model = log.of(DELETED)
    assert version["audit.target.id"] == f"{name}@1"
    assert version["ml.registry.before"] == "champion, Archived"
    assert version["ml.change.ticket"] == "CHG-2041"
    assert model["audit.target.id"] == name
    assert "shadow=2" in model["ml.registry.before"]
    with pytest.raises(Exception, match=r".*"):
        client.delete_model_version(name, "7")
    assert log.of(DELETED)[-1]["event.outcome"] == "failure"


def test_tags_and_texts_are_configuration(log: AuditLog, client: MlflowClient, name: str) -> None:
    """Each key is recorded with old and new value; secrets in them are removed."""
    make(client, name, 1)
    client.set_registered_model_tag(name, "threshold", "0.5")
    client.set_registered_model_tag(name, "threshold", "0.7")
    client.delete_registered_model_tag(name, "threshold")
    client.set_model_version_tag(name, "1", "api_key", "sk-live-1234567890abcdef")
    client.delete_model_version_tag(name, "1", "api_key")
    client.update_model_version(name, "1", "first")
    client.update_registered_model(name, "scores loans")
    records = log.of(CHANGED)
    assert {record["ml.config.source"] for record in records} == {"registry"}
    paths = [record["ml.config.path"] for record in records]
    assert paths == [f"models:/{name}"] * 3 + [f"models:/{name}/1"] * 3 + [f"models:/{name}"]
    changes = [record["ml.config.changes"] for record in records]
    assert changes[:3] == [
        {"threshold": "(absent) -> 0.5"},
        {"threshold": "0.5 -> 0.7"},
        {"threshold": "0.7 -> (absent)"},
    ]
    assert changes[5:] == [{"description": "(absent) -> first"}, {"description": "(absent) -> scores loans"}]
    assert "sk-live" not in str(log.records)
    assert [record["ml.config.keys"] for record in records[3:5]] == [["api_key"], ["api_key"]]
    assert records[0]["ml.change.ticket"] == "CHG-2041"


def test_rename_and_tag_by_stage(log: AuditLog, client: MlflowClient, name: str) -> None:
    """A new name is recorded under the old one; a version that is named by its stage is recorded by its number."""
    make(client, name, 1)
    client.transition_model_version_stage(name, "1", "Staging")
    client.set_model_version_tag(name, key="owner", value="risk", stage="Staging")
    client.rename_registered_model(name, f"{name}-2")
    tag, renamed = log.of(CHANGED)
    assert tag["ml.config.path"] == f"models:/{name}/1"
    assert renamed["ml.config.changes"] == {"name": f"{name} -> {name}-2"}


def test_copy_is_a_registration(log: AuditLog, client: MlflowClient, name: str) -> None:
    """A version that is copied into another model is registered there."""
    make(client, name, 1)
    client.copy_model_version(f"models:/{name}/1", f"{name}-prod")
    record = log.of(REGISTERED)[-1]
    assert record["audit.target.id"] == f"{name}-prod@1"
    assert record["ml.model.path"] == f"models:/{name}/1"


def test_actor_is_the_user_of_the_process(
    log: AuditLog, client: MlflowClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody is stated, the account at the server or the user of the process acts."""
    monkeypatch.setenv("LOGNAME", "dave")
    client.create_registered_model(name)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "erin")
    client.set_registered_model_tag(name, "a", "b")
    user, account = log.of(REGISTERED)[0], log.of(CHANGED)[0]
    assert (user["audit.actor.type"], user["audit.actor.method"]) == ("user", "process")
    assert (account["audit.actor.type"], account["audit.actor.method"]) == ("user", "credential")
    assert user["audit.actor.id"] != account["audit.actor.id"]


def test_registry_that_does_not_answer_costs_the_value_before(
    log: AuditLog, client: MlflowClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where what was before cannot be asked for, the change is made and recorded without it."""
    make(client, name, 1)

    original = MlflowClient.get_registered_model
    asked: list[str] = []

    def fail(*arguments: Any, **_: Any) -> Any:
        asked.append(arguments[1])
        if len(asked) > 1:
            return original(arguments[0], arguments[1])
        raise ConnectionError("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "get_registered_model", fail)
        patched.setattr(MlflowClient, "get_model_version", None)
        client.set_registered_model_alias(name, "champion", "1")
    assert str(client.get_registered_model(name).aliases["champion"]) == "1"
    (record,) = log.of(PROMOTED)
    assert record["ml.registry.after"] == "1"
    assert "ml.registry.before" not in record


def test_refused_change_is_not_made(hooked: Any, client: MlflowClient, name: str) -> None:
    """With on_failure refuse, nothing is promoted, tagged or deleted that could not be recorded."""
    with hooked("mlflow", policy=REFUSE) as log:
        make(client, name, 1)
        log.fail(SpoolUnavailableError("disk full"))
        for change in (
            lambda: client.set_registered_model_alias(name, "champion", "1"),
            lambda: client.set_registered_model_tag(name, "a", "b"),
            lambda: client.delete_registered_model(name),
            lambda: client.create_model_version(name, "s3://models/credit"),
        ):
            with pytest.raises(AuditRefusedError):
                change()
        log.heal()
        assert client.get_registered_model(name).aliases == {}
        assert len(client.search_model_versions(f"name='{name}'")) == 1


def test_broken_hooks_harm_nobody(hooked: Any, broken: str, client: MlflowClient, name: str) -> None:
    """With every hook broken on purpose the registry changes as ever, and the faults are reported."""
    assert broken
    with hooked("mlflow") as log:
        make(client, name, 2)
        client.set_registered_model_alias(name, "champion", "2")
        client.set_model_version_tag(name, "2", "a", "b")
        client.delete_model_version(name, "1")
        found = client.get_model_version_by_alias(name, "champion")
        assert (found.version, found.tags) in (("2", {"a": "b"}), (2, {"a": "b"}))
        failed = [record for record in log.records if record.get("audit.failed")]
    assert {record["audit.kind"] for record in failed} == {REGISTERED, PROMOTED, CHANGED, DELETED}
