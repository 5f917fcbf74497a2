"""The doctor on the real path: intact, and with each part behind the collector broken on purpose."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from tests.conftest import wait_for
from typer.testing import CliRunner

from mlaudit.cli import app
from mlaudit.deliver.spool import layout
from mlaudit.health.scrape import fetch
from mlaudit.install.apply import install
from mlaudit.stack import Stack

pytestmark = pytest.mark.stack

Examine = Callable[..., dict[str, Any]]


@pytest.fixture
def examine(stack: Stack, service: str, tmp_path: Path) -> Examine:
    """``mlaudit doctor --json`` as a service of the stack; keywords change its environment."""
    user, password = stack.reader_auth
    (tmp_path / "password").write_text(password)

    def run(wait: str = "20", **changed: str) -> dict[str, Any]:
        trust = {"MLAUDIT_CA_FILE": str(stack.otlp_ca_file)} if stack.otlp_ca_file else {}
        env = {
            "MLAUDIT_ENABLED": "true",
            "MLAUDIT_SERVICE_NAME": service,
            "MLAUDIT_STATE_DIR": str(tmp_path / "state"),
            "MLAUDIT_ENDPOINT": stack.otlp_endpoint,
            "MLAUDIT_TOKEN_FILE": str(stack.token_file),
            "MLAUDIT_COLLECTOR_METRICS_URL": stack.metrics_url,
            "MLAUDIT_ES_URL": stack.elasticsearch_url,
            "MLAUDIT_ES_CA_FILE": str(stack.ca_file),
            "MLAUDIT_ES_USERNAME": user,
            "MLAUDIT_ES_PASSWORD_FILE": str(tmp_path / "password"),
            **trust,
        }
        result = CliRunner().invoke(app, ["doctor", "--json", "--wait", wait], env=env | changed)
        for secret in (stack.token, password):
            assert secret not in result.output
        answer: dict[str, Any] = json.loads(result.stdout)
        assert result.exit_code == (0 if answer["ok"] else 1), result.output
        return answer

    return run


def broken(answer: dict[str, Any], step: str) -> dict[str, Any]:
    """Asserts that this is the first broken link and that nothing behind it was reached."""
    assert answer["broken"] == step, answer
    place = [one["step"] for one in answer["checks"]].index(step)
    assert {one["state"] for one in answer["checks"][place + 1 :]} <= {"not reached"}
    return dict(answer["checks"][place])


@pytest.fixture
def healed(stack: Stack) -> Iterator[None]:
    """The stack works again after each test that breaks it."""
    yield
    if not stack.elasticsearch_process.alive():
        stack.restart_elasticsearch()
    if not stack.collector_process.alive():
        stack.restart_collector()
    install(stack.elasticsearch_url, stack.elasticsearch_auth, stack.ca_file, dry_run=False)


def test_whole_path_is_whole(examine: Examine, elasticsearch: Elasticsearch, service: str) -> None:
    """A user who may only read finds and proves the probe in the index; every check passes."""
    answer = examine()
    assert answer["ok"], answer
    states = {one["step"]: one["state"] for one in answer["checks"]}
    assert states["probe: arrived"] == states["probe: verified"] == "ok", answer
    found = elasticsearch.search(index="logs-mlaudit.*", query={"term": {"service.name": service}})["hits"][
        "hits"
    ]
    kinds = {hit["_source"]["audit.kind"] for hit in found}
    assert kinds == {"audit.stream.started", "audit.pipeline.probe", "audit.stream.ended"}
    assert {hit["_source"]["event.dataset"] for hit in found} == {"mlaudit.integrity"}


def test_probe_raises_no_alarm(examine: Examine, stack: Stack, service: str, tmp_path: Path) -> None:
    """No detection rule fires on a probed service."""
    assert examine()["ok"]
    user, _ = stack.reader_auth
    env = {"MLAUDIT_ES_USERNAME": user, "MLAUDIT_ES_PASSWORD_FILE": str(tmp_path / "password")}
    asked = ["detect", "--once", "--elasticsearch", stack.elasticsearch_url, "--ca-file", str(stack.ca_file)]
    result = CliRunner().invoke(app, [*asked, "--json"], env=env)
    assert result.exit_code in (0, 1), result.output  # others' records may raise some
    json.loads(result.stdout)
    assert service not in result.output


def test_collector_that_was_killed(examine: Examine, stack: Stack, healed: None) -> None:
    """No process listens at the endpoint."""
    stack.kill_collector()
    link = broken(examine(), "collector: connection")
    assert "refused" in link["found"].lower()


def test_elasticsearch_that_was_killed(examine: Examine, stack: Stack, healed: None, tmp_path: Path) -> None:
    """The collector accepted the probe: the doctor reports that it waits in the queue, and it arrives afterwards."""
    stack.kill_elasticsearch()
    answer = examine()
    link = broken(answer, "Elasticsearch: connection")
    assert "it waits in the collector's queue" in link["found"]
    assert not layout.streams(tmp_path / "state" / "spool")
    stack.restart_elasticsearch()
    stream = answer["probe"]["stream_id"]
    query = {"term": {"audit.sequence.stream_id": stream}}
    with Elasticsearch(
        stack.elasticsearch_url, basic_auth=stack.elasticsearch_auth, ca_certs=str(stack.ca_file)
    ) as client:

        def arrived() -> bool:
            client.indices.refresh(index="logs-mlaudit.*", ignore_unavailable=True)
            return bool(client.count(index="logs-mlaudit.*", query=query)["count"] == 3)

        wait_for(arrived, "the probe's arrival", 60)


def test_wrong_password_for_elasticsearch(examine: Examine, tmp_path: Path) -> None:
    """The reader's credentials are rejected; they are not printed."""
    (tmp_path / "wrong").write_text("not-the-password")
    answer = examine(MLAUDIT_ES_PASSWORD_FILE=str(tmp_path / "wrong"))
    broken(answer, "Elasticsearch: authentication")
    assert "not-the-password" not in json.dumps(answer)


def test_wrong_authority_for_elasticsearch(examine: Examine, tmp_path: Path) -> None:
    """Its certificate is signed by an untrusted CA."""
    from mlaudit.stack.certificates import make_certificates

    (tmp_path / "other.pem").write_text(make_certificates().authority)
    link = broken(examine(MLAUDIT_ES_CA_FILE=str(tmp_path / "other.pem")), "Elasticsearch: certificate")
    assert "MLAUDIT_ES_CA_FILE" in link["remedy"]


def test_user_who_may_not_read(examine: Examine, stack: Stack, tmp_path: Path) -> None:
    """The writer's credentials are valid, but cannot find the probe."""
    (tmp_path / "writer").write_text(stack.credentials.writer)
    answer = examine(
        MLAUDIT_ES_USERNAME="mlaudit-writer", MLAUDIT_ES_PASSWORD_FILE=str(tmp_path / "writer"), wait="5"
    )
    link = broken(answer, "probe: arrived")
    assert "mlaudit_reader" in link["remedy"]


def test_template_that_is_missing(examine: Examine, elasticsearch: Elasticsearch, healed: None) -> None:
    """Without its template a data stream cannot be created, and documents are rejected."""
    elasticsearch.indices.delete_index_template(name="logs-mlaudit.integrity")
    link = broken(examine(), "Elasticsearch: templates")
    assert "mlaudit install" in link["remedy"]


def test_document_that_elasticsearch_refuses_is_counted(sender: Any, stack: Stack, examine: Examine) -> None:
    """The exporter counts the document as sent; the doctor reads the writer's own count and warns."""
    before = sum(fetch(stack.metrics_url).rejections().values())
    assert sender.send(sender.record(sender.original(labels={"nul\x00key": "x"}))) == 200
    sender.wait_for(
        lambda: sum(fetch(stack.metrics_url).rejections().values()) > before,
        "the writer to count the refusal",
    )
    answer = examine()
    assert answer["ok"], answer
    (counters,) = [one for one in answer["checks"] if one["step"] == "collector: counters"]
    assert counters["state"] == "warning"
    assert "Elasticsearch has refused" in counters["warnings"][0]["found"]


def test_it_works_as_the_stack_prints_its_environment(stack: Stack, tmp_path: Path) -> None:
    """``eval "$(mlaudit stack env)"`` and nothing else is enough."""
    printed = CliRunner().invoke(app, ["stack", "env", "--dir", str(stack.directory)])
    env = dict(line.removeprefix("export ").split("=", 1) for line in printed.stdout.splitlines())
    result = CliRunner().invoke(
        app,
        ["doctor", "--json"],
        env={k: v.strip("'") for k, v in env.items()} | {"MLAUDIT_STATE_DIR": str(tmp_path)},
    )
    assert result.exit_code == 0, result.output
