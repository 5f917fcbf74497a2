from __future__ import annotations

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
        "MLAUDIT_SPOOLDIR: no such setting",
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
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-a=1",
            "OTEL_RESOURCE_ATTRIBUTES": "service.name=r,deployment.environment.name=prod,service.version=2",
        }
    )
    assert settings.endpoint == "http://c:4318/v1/logs"
    assert settings.headers == (("x-a", "1"),)
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
