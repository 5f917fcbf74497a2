"""Every ``MLAUDIT_*`` variable: its name, default, meaning and check.

``VARIABLES`` is the single source: ``docs/settings.md`` is generated from it, and ``Settings.from_env`` uses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlaudit.settings import reading

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting.

    ``read`` converts the text to the value and raises ValueError with what it expected; ``default`` is shown in the
    documentation, ``fallback`` computes the value when the variable is absent.
    """

    name: str
    default: str
    meaning: str
    read: Callable[[str], Any]
    fallback: Callable[[Mapping[str, str]], Any]


def _state_dir(env: Mapping[str, str]) -> Path:
    base = env.get("XDG_STATE_HOME") or str(Path(env.get("HOME") or "~").expanduser() / ".local" / "state")
    return Path(base) / "mlaudit"


def _otel_endpoint(env: Mapping[str, str]) -> str:
    if logs := env.get("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"):
        return reading.endpoint(logs)
    if base := env.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return reading.endpoint(base.rstrip("/") + "/v1/logs")
    return "http://127.0.0.1:4318/v1/logs"


def _otel_headers(env: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    for name in ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"):
        if text := env.get(name):
            try:
                return reading.headers(text)
            except ValueError as error:
                raise ValueError(f"{name} to have {error}") from None
    return ()


def _service_name(env: Mapping[str, str]) -> str:
    if name := env.get("OTEL_SERVICE_NAME", "").strip():
        return name
    return resource_attributes(env).get("service.name") or "unknown_service"


def resource_attributes(env: Mapping[str, str]) -> dict[str, str]:
    """``OTEL_RESOURCE_ATTRIBUTES``, decoded."""
    return reading.attributes(env.get("OTEL_RESOURCE_ATTRIBUTES", ""))


def _always(value: Any) -> Callable[[Mapping[str, str]], Any]:
    return lambda _: value


VARIABLES: Final = (
    Variable(
        "ENABLED",
        "false",
        "Turns auditing on. When it is off, only this variable is read.",
        reading.flag,
        _always(False),
    ),
    Variable(
        "POLICY",
        "built in",
        "The policy file (YAML). The built-in policy records everything at metadata level and pseudonymises "
        "personal data.",
        reading.path,
        _always(None),
    ),
    Variable(
        "SERVICE_NAME",
        "`OTEL_SERVICE_NAME`, else `unknown_service`",
        "The name of the audited service or job.",
        reading.text,
        _service_name,
    ),
    Variable(
        "ENVIRONMENT",
        "`deployment.environment.name` of `OTEL_RESOURCE_ATTRIBUTES`",
        "The deployment environment, e.g. `production`; also the basis of `service.environment`.",
        reading.text,
        lambda env: resource_attributes(env).get("deployment.environment.name", ""),
    ),
    Variable(
        "STATE_DIR",
        "`$XDG_STATE_HOME/mlaudit`, else `~/.local/state/mlaudit`",
        "The folder of keys, spool and the state of the last start.",
        reading.path,
        _state_dir,
    ),
    Variable(
        "SPOOL_DIR", "`spool` under the state folder", "The durable spool.", reading.path, lambda env: None
    ),
    Variable(
        "SPOOL_MAX_BYTES",
        "1GiB",
        "How many unsent bytes one process may hold. At the limit an action is refused or a record is counted as "
        "lost, as the policy's `on_failure` says.",
        reading.size(1 << 16),
        _always(1 << 30),
    ),
    Variable(
        "RETAIN_SECONDS",
        "86400",
        "How long delivered records are retained in the spool, for `mlaudit resend`. 0 retains none.",
        reading.seconds(0, 10 * 365 * 86400),
        _always(86400.0),
    ),
    Variable(
        "RETAIN_BYTES",
        "256MiB",
        "How many bytes of delivered records a spool retains at most; the oldest are deleted first, and all of them "
        "before a full disk loses a record. 0 retains none.",
        reading.size(0),
        _always(256 << 20),
    ),
    Variable(
        "ENDPOINT",
        "`OTEL_EXPORTER_OTLP_LOGS_ENDPOINT`, `OTEL_EXPORTER_OTLP_ENDPOINT` + `/v1/logs`, else "
        "`http://127.0.0.1:4318/v1/logs`",
        "The OTLP/HTTP receiver of the collector. Beyond this machine it must be `https://`, with a token file, a "
        "client certificate or an authorization header.",
        reading.endpoint,
        _otel_endpoint,
    ),
    Variable(
        "HEADERS",
        "`OTEL_EXPORTER_OTLP_LOGS_HEADERS`, else `OTEL_EXPORTER_OTLP_HEADERS`",
        "Request headers, `name=value,name=value`, read like OpenTelemetry's variables: a value is URL-decoded "
        "(`authorization=Bearer%20abc`), one with a blank in it is taken literally. If a name is given twice, the "
        "last value counts; an entry that is not a pair, or decodes to a line break, is refused.",
        reading.headers,
        _otel_headers,
    ),
    Variable(
        "TOKEN_FILE",
        "none",
        "A file with the bearer token for the collector; read again on every 401.",
        reading.path,
        _always(None),
    ),
    Variable(
        "CA_FILE", "the system's", "CA certificates for the collector (PEM).", reading.path, _always(None)
    ),
    Variable(
        "CLIENT_CERT_FILE", "none", "Client certificate for mutual TLS (PEM).", reading.path, _always(None)
    ),
    Variable("CLIENT_KEY_FILE", "none", "Its private key (PEM).", reading.path, _always(None)),
    Variable(
        "INSECURE",
        "false",
        "Accepts an unprotected connection beyond this machine: `http://`, or a receiver without authentication. "
        "For test networks; each start logs a warning, and the stream's first record contains it.",
        reading.flag,
        _always(False),
    ),
    Variable(
        "COMPRESSION",
        "none",
        "`gzip` saves network and costs CPU.",
        reading.choice("none", "gzip"),
        _always("none"),
    ),
    Variable(
        "SIGNING_KEY_FILE",
        "`keys/signing.key` under the state folder, created on first use",
        "The Ed25519 key that signs checkpoints.",
        reading.path,
        _always(None),
    ),
    Variable(
        "SIGNER",
        "file",
        "The signer of checkpoints: `file`, or `name:reference` of a signer that a package provides, e.g. one for a "
        "key management service (docs/keys.md).",
        reading.text,
        _always("file"),
    ),
    Variable(
        "PSEUDONYM_KEY_FILE",
        "`keys/pseudonym.key` under the state folder, created on first use",
        "The key of the keyed HMAC that replaces personal data.",
        reading.path,
        _always(None),
    ),
    Variable(
        "CHECKPOINT_RECORDS",
        "1000",
        "The number of records after which a checkpoint is signed.",
        reading.count(1, 1_000_000),
        _always(1000),
    ),
    Variable(
        "CHECKPOINT_SECONDS",
        "10",
        "The longest time after an unsigned record until a checkpoint is signed.",
        reading.seconds(0.1, 86400),
        _always(10.0),
    ),
    Variable(
        "CHECKPOINT_EXPORT_DIR",
        "none",
        "A folder for the newest signed checkpoint of every stream, e.g. a mount that administrators of "
        "Elasticsearch cannot write (docs/checkpoints.md).",
        reading.path,
        _always(None),
    ),
    Variable(
        "CHECKPOINT_EXPORT_FILE",
        "none",
        "A file to which every signed checkpoint is appended, e.g. an append-only one.",
        reading.path,
        _always(None),
    ),
    Variable(
        "SHUTDOWN_SECONDS",
        "5",
        "How long a stopping process continues sending. The rest stays in the spool for the next start.",
        reading.seconds(0, 3600),
        _always(5.0),
    ),
    Variable(
        "ACTOR_HEADER",
        "none",
        "The request header in which a trusted proxy names the authenticated user.",
        reading.text,
        _always(""),
    ),
    Variable(
        "BODY_LIMIT",
        "64KiB",
        "How many bytes of a request or response body are recorded when the policy records contents; digests always "
        "cover the whole body.",
        reading.size(0),
        _always(1 << 16),
    ),
    Variable(
        "WATCH",
        "none",
        "Configuration files to watch besides the policy's, separated like `PATH`.",
        reading.paths,
        _always(()),
    ),
    Variable(
        "WATCH_SECONDS",
        "1",
        "The interval at which watched files are checked.",
        reading.seconds(0.05, 3600),
        _always(1.0),
    ),
    Variable(
        "OTEL",
        "auto",
        "`auto` starts OpenTelemetry's own instrumentation when an OTLP endpoint is configured and it is not started "
        "yet; `off` never starts it.",
        reading.choice("auto", "off"),
        _always("auto"),
    ),
    Variable(
        "DISABLED_LIBRARIES",
        "none",
        "Library integrations to disable, e.g. `sklearn,joblib`.",
        reading.names,
        _always(()),
    ),
    Variable(
        "CHANGE_TICKET",
        "none",
        "The change ticket under which this process was started.",
        reading.text,
        _always(""),
    ),
    Variable("CHANGE_APPROVER", "none", "The approver of that change.", reading.text, _always("")),
)


# Read by other parts of mlaudit: the command line and the local stack.
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
