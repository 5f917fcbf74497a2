"""The checked settings of one process, from ``MLAUDIT_*`` variables.

``variables`` defines each with its default and its meaning, ``reading`` converts texts to values. All faults are
reported together; an unknown name is a fault.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mlaudit.errors import SettingsError
from mlaudit.safety.network import exposure, names_credential
from mlaudit.settings.reading import TRUE
from mlaudit.settings.variables import ELSEWHERE, VARIABLES, resource_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["VARIABLES", "Settings", "is_enabled"]

# Their values are not repeated in an error.
_MAY_HOLD_SECRETS: Final = frozenset({"HEADERS", "ENDPOINT"})


@dataclass(frozen=True, slots=True)
class Settings:
    """The checked settings of one process; see ``VARIABLES`` for each."""

    enabled: bool
    policy: Path | None
    service_name: str
    environment: str
    state_dir: Path
    spool_dir: Path
    spool_max_bytes: int
    retain_seconds: float
    retain_bytes: int
    endpoint: str
    headers: tuple[tuple[str, str], ...]
    token_file: Path | None
    ca_file: Path | None
    client_cert_file: Path | None
    client_key_file: Path | None
    insecure: bool
    compression: str
    signing_key_file: Path | None
    signer: str
    pseudonym_key_file: Path | None
    checkpoint_records: int
    checkpoint_seconds: float
    checkpoint_export_dir: Path | None
    checkpoint_export_file: Path | None
    shutdown_seconds: float
    actor_header: str
    body_limit: int
    watch: tuple[str, ...]
    watch_seconds: float
    otel: str
    disabled_libraries: tuple[str, ...]
    change_ticket: str
    change_approver: str
    service_version: str = ""
    service_instance: str = ""
    host_name: str = ""

    @property
    def exposed(self) -> str:
        """Why records could be read in transit or sent by an unauthenticated client; empty when neither is possible."""
        named = any(value and names_credential(header) for header, value in self.headers)
        return exposure(self.endpoint, authenticated=bool(self.token_file or self.client_cert_file or named))

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Reads and checks every variable of ``env`` (default: the process's environment).

        Raises:
            SettingsError: lists every unknown and every invalid variable at once.
        """
        env = os.environ if env is None else env
        faults: list[str] = []
        values: dict[str, Any] = {}
        for variable in VARIABLES:
            name = f"MLAUDIT_{variable.name}"
            text = env.get(name)
            try:
                values[variable.name.lower()] = (
                    variable.read(text) if text is not None else variable.fallback(env)
                )
            except ValueError as error:
                found = "" if text is None or variable.name in _MAY_HOLD_SECRETS else f", found {text!r}"
                faults.append(f"{name}: expected {error}{found}")
        faults += _unknown(env)
        if not faults:
            faults = _half_certificate(values)
        if faults:
            raise SettingsError(faults)
        if values["spool_dir"] is None:
            values["spool_dir"] = values["state_dir"] / "spool"
        resource = resource_attributes(env)
        settings = cls(
            **values,
            service_version=resource.get("service.version", ""),
            service_instance=resource.get("service.instance.id", ""),
            host_name=resource.get("host.name") or socket.gethostname(),
        )
        if settings.exposed and not settings.insecure:
            raise SettingsError([settings.exposed])
        return settings


def is_enabled() -> bool:
    """Whether ``MLAUDIT_ENABLED`` turns auditing on in this process; reads no other setting."""
    return os.environ.get("MLAUDIT_ENABLED", "").strip().lower() in TRUE


def _half_certificate(values: Mapping[str, Any]) -> list[str]:
    given, lacking = "MLAUDIT_CLIENT_CERT_FILE", "MLAUDIT_CLIENT_KEY_FILE"
    if bool(values["client_cert_file"]) == bool(values["client_key_file"]):
        return []
    if values["client_key_file"]:
        given, lacking = lacking, given
    return [f"{lacking}: expected a file, because {given} is set, found none; set both or neither"]


def _unknown(env: Mapping[str, str]) -> list[str]:
    known = {f"MLAUDIT_{variable.name}" for variable in VARIABLES} | ELSEWHERE
    strangers = sorted(name for name in env if name.startswith("MLAUDIT_") and name not in known)
    # In containers, variables of the collector and the stack share the environment.
    return [
        f"{name}: unknown setting; see docs/settings.md"
        for name in strangers
        if not name.startswith(("MLAUDIT_COLLECTOR_", "MLAUDIT_STACK_"))
    ]
