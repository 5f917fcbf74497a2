"""The state file and the credentials file."""

from __future__ import annotations

import os

import pytest

from mlaudit.errors import StackError
from mlaudit.stack.credentials import load_or_make, password_hash
from mlaudit.stack.process import ProcessId
from mlaudit.stack.state import State, read_state

STATE = State(
    elasticsearch_url="https://127.0.0.1:9200",
    otlp_endpoint="http://127.0.0.1:4318",
    health_url="http://127.0.0.1:13133/",
    metrics_url="http://127.0.0.1:8888/metrics",
    ca_file="/x/ca.pem",
    credentials="/x/credentials.json",
    logs="/x/logs",
    namespace="default",
    archive=None,
    elasticsearch=ProcessId(1, "2"),
    collector=ProcessId(3, "4"),
)


def mode(path) -> int:
    """The permission bits."""
    return path.stat().st_mode & 0o777


def test_state_is_read_as_it_was_written_and_private(tmp_path):
    """What runs is found again, and only by its owner."""
    path = tmp_path / "stack.json"
    STATE.write(path)
    assert read_state(path) == STATE
    assert mode(path) == 0o600


def test_absent_state_means_nothing_runs(tmp_path):
    """No file, no stack."""
    assert read_state(tmp_path / "stack.json") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"elasticsearch": 1}', "not json"])
def test_damaged_state_is_refused(tmp_path, text):
    """A damaged state file is an error, and no process is signalled."""
    path = tmp_path / "stack.json"
    path.write_text(text)
    with pytest.raises(StackError, match="does not describe a stack"):
        read_state(path)


def test_credentials_are_random_kept_and_private(tmp_path):
    """Made once, different for each user and each stack, readable by the owner only."""
    first = load_or_make(tmp_path / "credentials.json")
    assert load_or_make(tmp_path / "credentials.json") == first
    assert mode(tmp_path / "credentials.json") == 0o600
    secrets = {*first.users().values(), first.token}
    assert len(secrets) == 5
    assert secrets.isdisjoint(load_or_make(tmp_path / "other.json").users().values())
    assert all(len(secret) >= 32 for secret in secrets)


def test_credentials_that_others_can_read_are_refused(tmp_path):
    """A credentials file that others can read is an error."""
    path = tmp_path / "credentials.json"
    load_or_make(path)
    path.chmod(0o644)
    with pytest.raises(StackError, match="chmod 600"):
        load_or_make(path)


def test_damaged_credentials_are_refused(tmp_path):
    """Damaged credentials are an error and are not replaced, since the data of the stack depends on them."""
    path = tmp_path / "credentials.json"
    os.close(os.open(path, os.O_CREAT, 0o600))
    with pytest.raises(StackError, match="does not hold the credentials"):
        load_or_make(path)


def test_password_hash_does_not_tell_the_password():
    """Salted: the same password hashes differently each time."""
    one, two = password_hash("secret"), password_hash("secret")
    assert one != two
    assert "secret" not in one
    assert one.startswith("{PBKDF2}1000$")
