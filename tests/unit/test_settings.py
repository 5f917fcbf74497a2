from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlaudit.errors import SettingsError
from mlaudit.settings import VARIABLES, Settings


def test_defaults_need_nothing() -> None:
    """An empty environment gives usable settings with auditing off."""
    settings = Settings.from_env({"HOME": "/home/x"})
    assert settings.enabled is False
    assert settings.spool_dir == Path("/home/x/.local/state/mlaudit/spool")
    assert settings.endpoint == "http://127.0.0.1:4318/v1/logs"
    assert settings.service_name == "unknown_service"


def test_every_fault_is_listed_at_once() -> None:
    """All wrong and unknown variables are told in one error, with what was expected."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(
            {
                "MLAUDIT_ENABLED": "maybe",
                "MLAUDIT_SPOOL_MAX_BYTES": "lots",
                "MLAUDIT_ENDPOINT": "collector:4318",
                "MLAUDIT_CHECKPOINT_RECORDS": "0",
                "MLAUDIT_COMPRESSION": "zip",
                "MLAUDIT_SPOOLDIR": "/x",
            }
        )
    faults = "\n".join(caught.value.faults)
    for part in (
        "ENABLED: expected true or false",
        "SPOOL_MAX_BYTES: expected a size",
        "ENDPOINT: expected an http",
        "CHECKPOINT_RECORDS: expected a whole number from 1",
        "COMPRESSION: expected none or gzip",
        "MLAUDIT_SPOOLDIR: unknown setting",
    ):
        assert part in faults
    assert len(caught.value.faults) == 6


def test_secrets_in_settings_are_not_repeated() -> None:
    """A wrong header setting and credentials in an address are refused without being shown."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"MLAUDIT_HEADERS": "hunter2"})
    assert "hunter2" not in str(caught.value)
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"MLAUDIT_ENDPOINT": "http://user:hunter2@localhost"})
    assert "hunter2" not in str(caught.value)


def test_opentelemetry_variables_are_the_fallback() -> None:
    """Endpoint, headers, service and environment come from the standard variables when ours are absent."""
    settings = Settings.from_env(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "https://c:4318/",
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer 1",
            "OTEL_RESOURCE_ATTRIBUTES": "service.name=r,deployment.environment.name=prod,service.version=2",
        }
    )
    assert settings.endpoint == "https://c:4318/v1/logs"
    assert settings.headers == (("authorization", "Bearer 1"),)
    assert (settings.service_name, settings.environment, settings.service_version) == ("r", "prod", "2")
    assert Settings.from_env({"OTEL_SERVICE_NAME": "s"}).service_name == "s"


@pytest.mark.parametrize(
    ("text", "size"), [("65536", 65536), ("64KiB", 65536), ("2 MiB", 2 << 20), ("1GiB", 1 << 30)]
)
def test_sizes_are_read_with_binary_units(text: str, size: int) -> None:
    """Sizes take bytes or binary units."""
    assert Settings.from_env({"MLAUDIT_SPOOL_MAX_BYTES": text}).spool_max_bytes == size


def test_every_setting_has_a_field_and_a_meaning() -> None:
    """The table of variables and the settings object name the same things."""
    assert {variable.name.lower() for variable in VARIABLES} <= set(Settings.__slots__)
    assert all(variable.meaning.endswith(".") for variable in VARIABLES)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"MLAUDIT_ENDPOINT": "http://collector:4318"}, "expected https:// beyond this machine"),
        ({"MLAUDIT_ENDPOINT": "http://10.0.0.7:4318", "MLAUDIT_TOKEN_FILE": "/t"}, "expected https://"),
        ({"MLAUDIT_ENDPOINT": "http://127.0.0.1.example.org"}, "expected https://"),
        ({"MLAUDIT_ENDPOINT": "http://[2001:db8::1]:4318"}, "expected https://"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, "expected https://"),
        ({"MLAUDIT_ENDPOINT": "https://collector:4318"}, "expected credentials"),
        (
            {"MLAUDIT_ENDPOINT": "https://collector:4318", "MLAUDIT_HEADERS": "x-team=a"},
            "expected credentials",
        ),
        (
            {"MLAUDIT_ENDPOINT": "https://collector:4318", "MLAUDIT_CLIENT_CERT_FILE": "/c"},
            "CLIENT_KEY_FILE: expected a file",
        ),
    ],
)
def test_unprotected_connection_beyond_this_machine_is_refused(env: dict[str, str], expected: str) -> None:
    """Plain http, and a collector that does not ask who sends, are refused before anything is sent."""
    with pytest.raises(SettingsError, match=expected):
        Settings.from_env(env)


@pytest.mark.parametrize(
    "env",
    [
        {"MLAUDIT_ENDPOINT": "http://localhost:4318"},
        {"MLAUDIT_ENDPOINT": "http://127.8.0.1:4318"},
        {"MLAUDIT_ENDPOINT": "http://[::1]:4318"},
        {"MLAUDIT_ENDPOINT": "http://[::ffff:127.0.0.1]:4318"},
        {"MLAUDIT_ENDPOINT": "https://collector", "MLAUDIT_TOKEN_FILE": "/t"},
        {"MLAUDIT_ENDPOINT": "https://collector", "MLAUDIT_HEADERS": "api-key=1"},
        {
            "MLAUDIT_ENDPOINT": "https://collector",
            "MLAUDIT_CLIENT_CERT_FILE": "/c",
            "MLAUDIT_CLIENT_KEY_FILE": "/k",
        },
    ],
)
def test_protected_connection_is_accepted(env: dict[str, str]) -> None:
    """This machine, and TLS with a token, a header or a client certificate, need no further word."""
    assert Settings.from_env(env).exposed == ""


@pytest.mark.parametrize("endpoint", ["http://collector:4318", "https://collector:4318"])
def test_unprotected_connection_can_be_accepted_and_is_named(endpoint: str) -> None:
    """MLAUDIT_INSECURE accepts it, and what is exposed stays known."""
    settings = Settings.from_env({"MLAUDIT_ENDPOINT": endpoint, "MLAUDIT_INSECURE": "true"})
    assert "MLAUDIT_INSECURE" in settings.exposed


HEADER_VARIABLES = ["MLAUDIT_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_LOGS_HEADERS"]


@pytest.mark.parametrize("variable", HEADER_VARIABLES)
@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("authorization=Bearer%20x", {"authorization": "Bearer x"}),
        ("authorization=Bearer x", {"authorization": "Bearer x"}),
        ("Authorization = Basic%20YTpi%3D%3D , X-Team=a", {"authorization": "Basic YTpi==", "x-team": "a"}),
        ("authorization=Basic YTpi==", {"authorization": "Basic YTpi=="}),
        ("x-team=a+b%2Bc%2C", {"x-team": "a+b+c,"}),
        ("x-team=caf%C3%A9", {"x-team": "caf\u00e9"}),
        ("x-team=a,X-TEAM=b", {"x-team": "b"}),
        ("x-team=", {"x-team": ""}),
        (" , ,", {}),
        ("x-team=100%", {"x-team": "100%"}),
        ("x-team=a%0d%0a", {"x-team": "a"}),  # blanks around a value are none of it
    ],
)
def test_headers_are_decoded_as_opentelemetry_does(variable: str, text: str, headers: dict[str, str]) -> None:
    """Values are URL-decoded unless a blank shows that they are not encoded; the last of a name counts."""
    assert dict(Settings.from_env({variable: text}).headers) == headers


@pytest.mark.parametrize("variable", HEADER_VARIABLES)
@pytest.mark.parametrize(
    "text",
    [
        "x-team=a,hunter2",
        "=hunter2",
        "x team=hunter2",
        "x-team=hunter2;b=c",
        'x-team="hunter2"',
        "x-team=hunter2\u00e9",
        "x-team=hunter2%0d%0aauthorization:%20Bearer%20y",
        "x-team=hunter2%0A1",
        "x-team=hunter2%00",
        "x-team=hunter2%E2%82%AC",
        "x-team=hunter2\r\nx-other: y",
        "x-team%0d%0ahunter2=y",
        "x%20hunter2=y",
    ],
)
def test_headers_that_cannot_be_sent_are_refused_without_their_text(
    variable: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the error nor the log repeats an entry, and no encoded line break becomes a header."""
    named = "" if variable == "MLAUDIT_HEADERS" else f"{variable} to have "
    with pytest.raises(SettingsError, match=f"MLAUDIT_HEADERS: expected {named}.*entry [12]") as caught:
        Settings.from_env({variable: text})
    assert "hunter2" not in str(caught.value) + caplog.text


def test_an_empty_credential_is_none() -> None:
    """An authorization header without a value does not make an address beyond this machine acceptable."""
    with pytest.raises(SettingsError, match="expected credentials"):
        Settings.from_env({"MLAUDIT_ENDPOINT": "https://collector", "MLAUDIT_HEADERS": "authorization="})


def test_resource_attributes_are_decoded_as_the_sdk_does() -> None:
    """The records name a service as its spans do; one entry that is not a pair costs no other."""
    env = {
        "OTEL_RESOURCE_ATTRIBUTES": "nonsense, service.name = my%20service v2 ,service.version=1;rc%2C1,"
        "host.name=caf\u00e9,service.instance.id=a%0d%0ab,deployment.environment.name=x=y"
    }
    settings = Settings.from_env(env)
    assert (settings.service_name, settings.service_version) == ("my service v2", "1;rc,1")
    assert (settings.host_name, settings.environment) == ("caf\u00e9", "x=y")
    assert settings.service_instance == ""
    assert Settings.from_env({"OTEL_RESOURCE_ATTRIBUTES": "service.name="}).service_name == "unknown_service"


def test_reading_no_headers_loads_no_parser() -> None:
    """Settings without headers import nothing more."""
    code = "import sys; from mlaudit.settings import Settings; Settings.from_env({}); " + (
        "print('opentelemetry.util.re' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
