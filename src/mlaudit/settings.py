"""Every ``MLAUDIT_*`` variable: its name, default, meaning and check.

``VARIABLES`` is the one table; ``docs/settings.md`` is generated from it and ``Settings.from_env`` reads by it.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from mlaudit.errors import SettingsError
from mlaudit.network import YES, exposure, names_credential

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TRUE: Final = YES
FALSE: Final = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting.

    ``read`` turns the text into the value and raises ValueError with what it expected; ``default`` is shown in
    the documentation, ``fallback`` computes the value when the variable is absent.
    """

    name: str
    default: str
    meaning: str
    read: Callable[[str], Any]
    fallback: Callable[[Mapping[str, str]], Any]


def _flag(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in TRUE:
        return True
    if lowered in FALSE:
        return False
    raise ValueError("true or false")


def _count(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return number

    return read


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise ValueError(f"seconds from {low:g} to {high:g}")
        return number

    return read


_UNITS: Final = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def _size(low: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        stripped = text.strip()
        digits = stripped.rstrip("BKMGIbkmgi ")
        unit = stripped[len(digits) :].strip().upper()
        if not digits.isascii() or not digits.isdigit() or unit not in _UNITS:
            raise ValueError("a size such as 512MiB or 1GiB")
        number = int(digits) * _UNITS[unit]
        if number < low:
            raise ValueError(f"a size of at least {low} bytes")
        return number

    return read


def _choice(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        lowered = text.strip().lower()
        if lowered not in allowed:
            raise ValueError(" or ".join(allowed))
        return lowered

    return read


def _path(text: str) -> Path:
    if not text.strip():
        raise ValueError("a path")
    return Path(text).expanduser()


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _paths(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(os.pathsep) if part)


def _headers(text: str) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for item in text.split(","):
        if not item.strip():
            continue
        name, separator, value = item.partition("=")
        if not separator or not name.strip():
            raise ValueError("name=value pairs separated by commas")
        pairs.append((name.strip().lower(), value.strip()))
    return tuple(pairs)


def _endpoint(text: str) -> str:
    parts = urlsplit(text.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an http:// or https:// address such as http://127.0.0.1:4318")
    if parts.username or parts.password:
        raise ValueError("an address without credentials (give them by MLAUDIT_TOKEN_FILE)")
    return text.strip() if parts.path not in ("", "/") else text.strip().rstrip("/") + "/v1/logs"


def _text(text: str) -> str:
    return text.strip()


def _state_dir(env: Mapping[str, str]) -> Path:
    base = env.get("XDG_STATE_HOME") or str(Path(env.get("HOME") or "~").expanduser() / ".local" / "state")
    return Path(base) / "mlaudit"


def _otel_endpoint(env: Mapping[str, str]) -> str:
    if logs := env.get("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"):
        return _endpoint(logs)
    if base := env.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return _endpoint(base.rstrip("/") + "/v1/logs")
    return "http://127.0.0.1:4318/v1/logs"


def _otel_headers(env: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return _headers(env.get("OTEL_EXPORTER_OTLP_LOGS_HEADERS") or env.get("OTEL_EXPORTER_OTLP_HEADERS") or "")


def _service_name(env: Mapping[str, str]) -> str:
    if name := env.get("OTEL_SERVICE_NAME", "").strip():
        return name
    return _resource(env).get("service.name", "unknown_service")


def _resource(env: Mapping[str, str]) -> dict[str, str]:
    try:
        return dict(_headers(env.get("OTEL_RESOURCE_ATTRIBUTES", "")))
    except ValueError:
        return {}


def _always(value: Any) -> Callable[[Mapping[str, str]], Any]:
    return lambda _: value


VARIABLES: Final = (
    Variable(
        "ENABLED",
        "false",
        "Switches auditing on. Off costs one look at this variable.",
        _flag,
        _always(False),
    ),
    Variable(
        "POLICY",
        "built in",
        "The policy file (YAML). The built-in policy records everything at metadata level and pseudonymises "
        "personal data.",
        _path,
        _always(None),
    ),
    Variable(
        "SERVICE_NAME",
        "`OTEL_SERVICE_NAME`, else `unknown_service`",
        "The name of the audited service or job.",
        _text,
        _service_name,
    ),
    Variable(
        "ENVIRONMENT",
        "`deployment.environment.name` of `OTEL_RESOURCE_ATTRIBUTES`",
        "The deployment environment, e.g. `production`; also the basis of `service.environment`.",
        _text,
        lambda env: _resource(env).get("deployment.environment.name", ""),
    ),
    Variable(
        "STATE_DIR",
        "`$XDG_STATE_HOME/mlaudit`, else `~/.local/state/mlaudit`",
        "Where keys, the spool and the memory of the last start live.",
        _path,
        _state_dir,
    ),
    Variable("SPOOL_DIR", "`spool` under the state folder", "The durable spool.", _path, lambda env: None),
    Variable(
        "SPOOL_MAX_BYTES",
        "1GiB",
        "How much one process may hold unsent. At the bound a record is refused or counted as lost, as the "
        "policy's `on_failure` says.",
        _size(1 << 16),
        _always(1 << 30),
    ),
    Variable(
        "RETAIN_SECONDS",
        "86400",
        "How long delivered records stay in the spool, for `mlaudit resend`. 0 keeps none.",
        _seconds(0, 10 * 365 * 86400),
        _always(86400.0),
    ),
    Variable(
        "RETAIN_BYTES",
        "256MiB",
        "How much of them stays in a spool at most; the oldest go first, all before a disk is full. 0 keeps none.",
        _size(0),
        _always(256 << 20),
    ),
    Variable(
        "ENDPOINT",
        "`OTEL_EXPORTER_OTLP_LOGS_ENDPOINT`, `OTEL_EXPORTER_OTLP_ENDPOINT` + `/v1/logs`, else "
        "`http://127.0.0.1:4318/v1/logs`",
        "The OTLP/HTTP receiver of the collector. Beyond this machine it must be `https://`, with a token file, a "
        "client certificate or an authorization header.",
        _endpoint,
        _otel_endpoint,
    ),
    Variable(
        "HEADERS",
        "`OTEL_EXPORTER_OTLP_LOGS_HEADERS`, else `OTEL_EXPORTER_OTLP_HEADERS`",
        "Request headers, `name=value,name=value`.",
        _headers,
        _otel_headers,
    ),
    Variable(
        "TOKEN_FILE",
        "none",
        "A file with the bearer token for the collector; read again on every 401.",
        _path,
        _always(None),
    ),
    Variable("CA_FILE", "the system's", "CA certificates for the collector (PEM).", _path, _always(None)),
    Variable("CLIENT_CERT_FILE", "none", "Client certificate for mutual TLS (PEM).", _path, _always(None)),
    Variable("CLIENT_KEY_FILE", "none", "Its private key (PEM).", _path, _always(None)),
    Variable(
        "INSECURE",
        "false",
        "Accepts an unprotected connection beyond this machine: `http://`, or a receiver that does not ask who sends. "
        "For test networks; each start warns, and the stream's first record says it.",
        _flag,
        _always(False),
    ),
    Variable(
        "COMPRESSION",
        "none",
        "`gzip` saves network and costs CPU.",
        _choice("none", "gzip"),
        _always("none"),
    ),
    Variable(
        "SIGNING_KEY_FILE",
        "`keys/signing.key` under the state folder, made on first use",
        "The Ed25519 key that signs checkpoints.",
        _path,
        _always(None),
    ),
    Variable(
        "SIGNER",
        "file",
        "Who signs checkpoints: `file`, or `name:reference` of a signer that a package brings, e.g. one for a key "
        "management service (docs/keys.md).",
        _text,
        _always("file"),
    ),
    Variable(
        "PSEUDONYM_KEY_FILE",
        "`keys/pseudonym.key` under the state folder, made on first use",
        "The key of the keyed HMAC that replaces personal data.",
        _path,
        _always(None),
    ),
    Variable(
        "CHECKPOINT_RECORDS",
        "1000",
        "A signed checkpoint after so many records.",
        _count(1, 1_000_000),
        _always(1000),
    ),
    Variable(
        "CHECKPOINT_SECONDS",
        "10",
        "A signed checkpoint at the latest so long after an unsigned record.",
        _seconds(0.1, 86400),
        _always(10.0),
    ),
    Variable(
        "CHECKPOINT_EXPORT_DIR",
        "none",
        "A folder that gets the newest signed checkpoint of every stream, e.g. a mount that administrators of "
        "Elasticsearch cannot write (docs/checkpoints.md).",
        _path,
        _always(None),
    ),
    Variable(
        "CHECKPOINT_EXPORT_FILE",
        "none",
        "A file to which every signed checkpoint is appended, e.g. an append-only one.",
        _path,
        _always(None),
    ),
    Variable(
        "SHUTDOWN_SECONDS",
        "5",
        "How long a stopping process goes on sending. What is left stays in the spool for the next start.",
        _seconds(0, 3600),
        _always(5.0),
    ),
    Variable(
        "ACTOR_HEADER",
        "none",
        "A request header that a trusted proxy sets to the authenticated user.",
        _text,
        _always(""),
    ),
    Variable(
        "BODY_LIMIT",
        "64KiB",
        "How much of a request or response body is kept when the policy asks for contents; digests always "
        "cover the whole body.",
        _size(0),
        _always(1 << 16),
    ),
    Variable(
        "WATCH",
        "none",
        "Configuration files to watch besides the policy's, separated like `PATH`.",
        _paths,
        _always(()),
    ),
    Variable(
        "WATCH_SECONDS",
        "1",
        "How often watched files are looked at.",
        _seconds(0.05, 3600),
        _always(1.0),
    ),
    Variable(
        "OTEL",
        "auto",
        "`auto` starts OpenTelemetry's own instrumentation when an OTLP endpoint is configured and nobody else "
        "started it; `off` leaves it alone.",
        _choice("auto", "off"),
        _always("auto"),
    ),
    Variable(
        "DISABLED_LIBRARIES",
        "none",
        "Library integrations to leave out, e.g. `sklearn,joblib`.",
        _names,
        _always(()),
    ),
    Variable(
        "CHANGE_TICKET",
        "none",
        "The change ticket under which this process was started.",
        _text,
        _always(""),
    ),
    Variable("CHANGE_APPROVER", "none", "Who approved that change.", _text, _always("")),
)


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
        """Why what is sent can be read on the way, or be sent by anybody; empty when neither is so."""
        named = any(names_credential(header) for header, _ in self.headers)
        return exposure(self.endpoint, authenticated=bool(self.token_file or self.client_cert_file or named))

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Reads and checks every variable of ``env`` (default: the process's environment).

        Raises:
            SettingsError: lists every unknown and every wrong variable at once.
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
        resource = _resource(env)
        settings = cls(
            **values,
            service_version=resource.get("service.version", ""),
            service_instance=resource.get("service.instance.id", ""),
            host_name=resource.get("host.name") or socket.gethostname(),
        )
        if settings.exposed and not settings.insecure:
            raise SettingsError([settings.exposed])
        return settings


def _half_certificate(values: Mapping[str, Any]) -> list[str]:
    given, lacking = "MLAUDIT_CLIENT_CERT_FILE", "MLAUDIT_CLIENT_KEY_FILE"
    if bool(values["client_cert_file"]) == bool(values["client_key_file"]):
        return []
    if values["client_key_file"]:
        given, lacking = lacking, given
    return [f"{lacking}: expected a file, because {given} is set, found none; set both or neither"]


# Read by other parts of mlaudit than the audited process: the command line and the local stack.
ELSEWHERE: Final = frozenset(
    {
        "MLAUDIT_CACHE",
        "MLAUDIT_ES_API_KEY",
        "MLAUDIT_ES_API_KEY_FILE",
        "MLAUDIT_ES_CA_FILE",
        "MLAUDIT_ES_PASSWORD",
        "MLAUDIT_ES_PASSWORD_FILE",
        "MLAUDIT_ES_URL",
        "MLAUDIT_ES_USERNAME",
        "MLAUDIT_ES_USERNAME_FILE",
    }
)


def _unknown(env: Mapping[str, str]) -> list[str]:
    known = {f"MLAUDIT_{variable.name}" for variable in VARIABLES} | ELSEWHERE
    strangers = sorted(name for name in env if name.startswith("MLAUDIT_") and name not in known)
    # Collector and stack variables travel in the same environment in containers.
    return [
        f"{name}: no such setting; see docs/settings.md"
        for name in strangers
        if not name.startswith(("MLAUDIT_COLLECTOR_", "MLAUDIT_STACK_"))
    ]
