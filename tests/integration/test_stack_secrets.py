"""The stack's own secrets are in files of their owner, and nowhere else."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from elasticsearch import Elasticsearch
from elasticsearch.helpers import scan
from typer.testing import CliRunner

from mlaudit.cli import app
from mlaudit.deliver.send.transport import HttpTransport, Receiver
from mlaudit.stack import Stack

pytestmark = pytest.mark.stack


@pytest.fixture
def secrets_of(stack: Stack) -> set[bytes]:
    """Every password and token, named senders' included."""
    named = stack.named_token_file("secrets-test").read_text()
    return {secret.encode() for secret in (*asdict(stack.credentials).values(), named)}


def test_no_secret_is_in_a_process_list(secrets_of: set[bytes]) -> None:
    """No program on this machine has one as an argument."""
    seen = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes()
        except OSError:
            continue
        seen += b"otelcol-mlaudit" in line
        assert not [secret for secret in secrets_of if secret in line], process
    assert seen


def test_no_secret_is_in_the_environment_of_a_process(stack: Stack, secrets_of: set[bytes]) -> None:
    """Collector and Elasticsearch get the names of files."""
    for started in (stack.collector_process, stack.elasticsearch_process):
        text = Path(f"/proc/{started.pid}/environ").read_bytes()
        assert text
        assert not [secret for secret in secrets_of if secret in text]


def test_no_secret_is_in_a_log_or_a_record(
    stack: Stack, secrets_of: set[bytes], sender, elasticsearch: Elasticsearch
) -> None:
    """Neither logs, nor archive, nor queue, nor any document holds one."""
    assert sender.send(sender.record(sender.original())) == 200
    assert sender.send(sender.record(sender.original()), token="wrong") == 401
    sender.find(1)
    assert stack.archive is not None
    queue = stack.layout.collector / "queue"
    for path in (*stack.logs.iterdir(), stack.archive, *queue.iterdir()):
        data = path.read_bytes()
        assert not [secret for secret in secrets_of if secret in data], path
    for hit in scan(elasticsearch, index="logs-*,traces-*", query={"query": {"match_all": {}}}):
        text = json.dumps(hit["_source"]).encode()
        assert not [secret for secret in secrets_of if secret in text]


def content(path: Path) -> bytes:
    """What is in a file; nothing when Elasticsearch has just replaced it."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def test_files_with_secrets_are_their_owners_alone(stack: Stack, secrets_of: set[bytes]) -> None:
    """Only the owner may read a file of the stack that holds a secret."""
    files = [
        path for folder in (stack.directory, stack.layout.run) for path in folder.rglob("*") if path.is_file()
    ]
    holding = [path for path in files if any(secret in content(path) for secret in secrets_of)]
    assert {"credentials.json", "token", "tokens", "writer.password"} <= {path.name for path in holding}
    assert [path for path in holding if path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["env"]], ids=" ".join)
def test_commands_print_no_secret(stack: Stack, secrets_of: set[bytes], arguments: list[str]) -> None:
    """The commands of the stack print file names instead of secrets."""
    printed = CliRunner().invoke(app, ["stack", *arguments, "--dir", str(stack.directory)])
    assert printed.exit_code == 0
    assert not [secret for secret in secrets_of if secret in printed.output.encode()]


def test_errors_of_the_sender_hold_no_secret(stack: Stack, tmp_path: Path) -> None:
    """A rejection, an unreachable receiver and a token that no header can hold are reported without the token."""
    token = tmp_path / "token"
    for text, endpoint in (
        ("hunter2-wrong", f"{stack.otlp_endpoint}/v1/logs"),
        ("hunter2-away", "http://127.0.0.1:9/v1/logs"),
        ("hunter2\nsecond line", f"{stack.otlp_endpoint}/v1/logs"),
    ):
        token.write_text(text)
        transport = HttpTransport(Receiver(endpoint, token_file=token))
        answer = transport.post(b"")
        transport.close()
        assert "hunter2" not in str(answer)
        assert answer.reason
