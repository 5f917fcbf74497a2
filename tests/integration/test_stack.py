"""The life cycle of a local stack: command line, adoption of running programs, private folders."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mlaudit.errors import StackError
from mlaudit.stack import Stack, stack_layout
from mlaudit.stack.ports import claimed_ports
from mlaudit.stack.state import read_state


def mlaudit(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    command = [sys.executable, "-m", "mlaudit.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)


def test_second_start_in_the_same_folder_is_refused(stack):
    """Two stacks would share data; the message says how to stop the first."""
    with pytest.raises(StackError, match="already runs in .*mlaudit stack down --dir"):
        Stack(stack.directory).start()


def test_port_of_a_killed_program_is_kept_for_it(stack):
    """Another stack that starts meanwhile gets another port, and the killed program comes back on its own."""
    port = urlsplit(stack.otlp_endpoint).port
    stack.kill_collector()
    try:
        with claimed_ports([port]) as (other,):
            assert other != port
    finally:
        stack.restart_collector()


def test_status_tells_what_runs_and_no_secret(stack):
    """Addresses, processes and health, in text and as JSON; exit code 0."""
    text = mlaudit("stack", "status", "--dir", str(stack.directory))
    assert text.returncode == 0, text.stderr
    assert stack.elasticsearch_url in text.stdout
    answer = mlaudit("stack", "status", "--json", "--dir", str(stack.directory))
    status = json.loads(answer.stdout)
    assert status["running"] is True
    assert status["healthy"] == {"elasticsearch": True, "collector": True}
    assert status["otlp_endpoint"] == stack.otlp_endpoint
    secrets = [*stack.credentials.users().values(), stack.token]
    assert not [secret for secret in secrets if secret in text.stdout + answer.stdout]


def test_status_and_down_where_nothing_runs(tmp_path):
    """Neither is an error; only the exit code of status reports it to a script."""
    status = mlaudit("stack", "status", "--dir", str(tmp_path))
    assert (status.returncode, status.stdout.strip()) == (1, "not running")
    down = mlaudit("stack", "down", "--dir", str(tmp_path))
    assert down.returncode == 0
    assert "nothing runs" in down.stdout


def test_error_is_one_plain_message(tmp_path):
    """No traceback: what is wrong, and exit code 2."""
    (tmp_path / "stack.json").write_text("{}")
    done = mlaudit("stack", "status", "--dir", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("mlaudit: ")
    assert "does not describe a stack" in done.stderr
    assert "Traceback" not in done.stderr


def test_secrets_are_neither_in_arguments_nor_open(stack):
    """Arguments are visible to every user of the machine, and so are files that are open to others."""
    secrets = [*stack.credentials.users().values(), stack.token]
    members = stack.collector_process.group() + stack.elasticsearch_process.group()
    assert len(members) >= 3
    arguments = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in members).decode()
    assert not [secret for secret in secrets if secret in arguments]
    folders = (stack.directory, stack.layout.run)
    files = {path for folder in folders for path in folder.rglob("*") if path.is_file()}
    holders = [path for path in files if path.stat().st_size < 10_000 and _holds(path, secrets)]
    assert len(holders) >= 5
    for path in holders:
        assert path.stat().st_mode & 0o077 == 0, path


def _holds(path: Path, secrets: list[str]) -> bool:
    content = path.read_bytes()
    return any(secret.encode() in content for secret in secrets)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops to another user")
def test_programs_do_not_run_as_root(stack):
    """Both run as the unprivileged user."""
    for pid in stack.collector_process.group() + stack.elasticsearch_process.group():
        assert Path(f"/proc/{pid}").stat().st_uid == stack_layout.unprivileged_uid()


@pytest.mark.stack
def test_stack_starts_in_a_private_folder_beside_another_and_stops_by_command(tmp_path):
    """With the usual ports taken and a folder that the unprivileged user cannot enter, it still starts."""
    tmp_path.chmod(0o700)
    directory = tmp_path / "stack"
    try:
        up = mlaudit("stack", "up", "--dir", str(directory))
        assert up.returncode == 0, up.stdout + up.stderr
        state = read_state(directory / "stack.json")
        assert state is not None
        assert (directory / "stack.json").stat().st_mode & 0o777 == 0o600
        again = mlaudit("stack", "up", "--dir", str(directory))
        assert "already running" in again.stdout
        down = mlaudit("stack", "down", "--dir", str(directory))
        assert "stopped" in down.stdout.splitlines()
        assert not state.elasticsearch.alive()
        assert not state.collector.alive()
        assert state.elasticsearch.group() == []
        assert read_state(directory / "stack.json") is None
    finally:
        mlaudit("stack", "down", "--dir", str(directory))
        shutil.rmtree(stack_layout.layout_of(directory).run, ignore_errors=True)
