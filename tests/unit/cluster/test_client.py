"""Reaching a cluster: credentials from the environment, addresses, and errors that say what to do."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mlaudit.cluster.client import Auth, connect, credentials, explained
from mlaudit.errors import InstallError


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"MLAUDIT_ES_USERNAME": "u", "MLAUDIT_ES_PASSWORD": "p"}, ("u", "p")),
        ({"MLAUDIT_ES_API_KEY": "k"}, "k"),
    ],
)
def test_credentials_come_from_variables(environment: dict[str, str], expected: Auth) -> None:
    """A user name with its password, an API key, or nothing."""
    assert credentials(environment) == expected


def test_credentials_come_from_files(tmp_path: Path) -> None:
    """Each variable may be a file instead; the line's end is not part of the secret."""
    (tmp_path / "password").write_text("p w\n", encoding="utf-8")
    environment = {"MLAUDIT_ES_USERNAME": "u", "MLAUDIT_ES_PASSWORD_FILE": str(tmp_path / "password")}
    assert credentials(environment) == ("u", "p w")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"MLAUDIT_ES_USERNAME": "u"}, "set MLAUDIT_ES_PASSWORD"),
        ({"MLAUDIT_ES_PASSWORD": "p"}, "set MLAUDIT_ES_USERNAME"),
        ({"MLAUDIT_ES_API_KEY": "k", "MLAUDIT_ES_USERNAME": "u"}, "found both; unset one"),
        ({"MLAUDIT_ES_API_KEY": "k", "MLAUDIT_ES_API_KEY_FILE": "f"}, "found both; unset one"),
        (
            {"MLAUDIT_ES_API_KEY_FILE": "/nonexistent/key"},
            "MLAUDIT_ES_API_KEY_FILE: cannot read /nonexistent/key",
        ),
    ],
)
def test_half_or_contradictory_credentials_are_refused(environment: dict[str, str], expected: str) -> None:
    """What is missing or contradictory is named."""
    with pytest.raises(InstallError, match=expected):
        credentials(environment)


def test_empty_credential_file_is_refused(tmp_path: Path) -> None:
    """An empty file is no credential, and not taken for none given."""
    (tmp_path / "key").write_text("\n", encoding="utf-8")
    with pytest.raises(InstallError, match="is empty"):
        credentials({"MLAUDIT_ES_API_KEY_FILE": str(tmp_path / "key")})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("localhost:9200", "expected an address such as"),
        ("ftp://localhost", "expected an address such as"),
        ("https://", "expected an address such as"),
        ("https://localhost:port", "expected an address such as"),
        ("https://alice:secret@localhost:9200", "the address carries credentials"),
    ],
)
def test_wrong_address_is_refused_without_showing_a_secret(url: str, expected: str) -> None:
    """An invalid address, or one with a password, is rejected; the password is not repeated."""
    with pytest.raises(InstallError, match=expected) as caught:
        connect(url, None)
    assert "secret" not in str(caught.value)


def test_absent_ca_file_is_named(tmp_path: Path) -> None:
    """A missing CA file is a distinct error, not one of TLS."""
    with pytest.raises(InstallError, match="found no such file"):
        connect("https://localhost:9200", None, tmp_path / "ca.pem")


def test_ca_file_needs_https(tmp_path: Path) -> None:
    """A CA file with an address that has no certificate is refused instead of ignored."""
    ca_file = tmp_path / "ca.pem"
    ca_file.touch()
    with pytest.raises(InstallError, match="expected an https address"):
        connect("http://localhost:9200", None, ca_file)


def test_absent_cluster_is_named() -> None:
    """When nothing listens at the address, the error says so and asks whether it is running."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(InstallError, match=f"cannot reach Elasticsearch at {url}: .*is it running"),
            explained(url, "looking"),
            connect(url, None) as client,
        ):
            client.nodes.info()


@pytest.mark.parametrize("url", ["http://elasticsearch:9200", "http://10.0.0.7:9200"])
def test_http_beyond_this_machine_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords and records do not cross a network in the clear, unless that is explicitly accepted."""
    monkeypatch.delenv("MLAUDIT_INSECURE", raising=False)
    with pytest.raises(InstallError, match="expected an https address beyond this machine"):
        connect(url, ("user", "password"))
    monkeypatch.setenv("MLAUDIT_INSECURE", "true")
    connect(url, ("user", "password")).close()
