"""One collector on the loopback interface: its environment, its start, its health."""

from __future__ import annotations

import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import urllib3

from mlaudit.errors import StackError
from mlaudit.stack import process
from mlaudit.stack.certificates import make_certificates
from mlaudit.stack.collector_build import config_dir
from mlaudit.stack.credentials import TELEMETRY, WRITER
from mlaudit.stack.elasticsearch_node import request
from mlaudit.stack.stack_layout import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlaudit.stack.credentials import Credentials
    from mlaudit.stack.process import ProcessId
    from mlaudit.stack.stack_layout import Layout

START_SECONDS: Final = 60
ADMIT_SECONDS: Final = 10
STOP_SECONDS: Final = 10

# Request headers, tokens included, would otherwise be written into the queue's file (docs/collector.md).
FEATURE_GATES: Final = "--feature-gates=-exporter.PersistRequestContext"
PATH: Final = "/usr/bin:/bin"

Tls = Literal["off", "server", "mutual"]


@dataclass(frozen=True, slots=True)
class Collector:
    """A configured collector.

    Attributes:
        archive: OTLP-JSON-lines file that also gets every audit record; None for none.
        tls: ``off``, ``server`` (it shows a certificate) or ``mutual`` (senders must show one too).
        direct: an acknowledgement means stored in Elasticsearch, not on the collector's disk.
        system: variables of system.yaml, which is merged; with ``MLAUDIT_KUBERNETES_AUTH`` among them kubernetes.yaml
            too. None: the collector observes neither host nor cluster.
    """

    layout: Layout
    binary: Path
    elasticsearch_url: str
    otlp_port: int
    health_port: int
    metrics_port: int
    namespace: str
    archive: Path | None
    tls: Tls = "off"
    direct: bool = False
    system: Mapping[str, str] | None = None

    @property
    def otlp_endpoint(self) -> str:
        """Where services send, without ``/v1/logs``."""
        return f"http{'' if self.tls == 'off' else 's'}://127.0.0.1:{self.otlp_port}"

    @property
    def metrics_url(self) -> str:
        """The collector's own metrics, Prometheus text."""
        return f"http://127.0.0.1:{self.metrics_port}/metrics"

    @property
    def log(self) -> Path:
        """What the process printed."""
        return self.layout.logs / "collector.log"

    def configure(self, credentials: Credentials) -> None:
        """Write configuration and secrets where the collector's user can read them."""
        layout, root = self.layout, self.layout.collector
        root.mkdir(exist_ok=True)
        layout.hand_over(root, 0o700)
        (root / "queue").mkdir(exist_ok=True)
        layout.hand_over(root / "queue", 0o700)
        for name in self._config_files():
            layout.write(root / name, (config_dir() / name).read_text())
        self.admit(credentials)
        layout.write(root / "writer.password", credentials.writer, secret=True)
        layout.write(root / "telemetry.password", credentials.telemetry, secret=True)
        if self.layout.ca_file.is_file():
            layout.write(root / "ca.pem", self.layout.ca_file.read_text())
        if self.tls != "off":
            self._certify()
        if self.archive is not None:
            self.archive.touch()
            layout.hand_over(self.archive, 0o600)

    def admit(self, credentials: Credentials) -> None:
        """Write the accepted tokens; a running collector reloads them by itself."""
        named = [path.read_text() for path in sorted(self.layout.senders.glob("*.token"))]
        tokens = "".join(f"{token.strip()}\n" for token in (credentials.token, *named))
        self.layout.write(self.layout.collector / "tokens", tokens, secret=True)

    def start(self, *, tied: bool) -> ProcessId:
        """Start the process; it is not yet healthy."""
        if self.archive is not None:
            end_last_line(self.archive)
        root = self.layout.collector
        arguments = [str(self.binary), FEATURE_GATES]
        arguments += [f"--config={root / name}" for name in self._config_files()]
        command = process.Command("the collector", arguments, self.environment(), self.log, self.layout.uid)
        return process.start(command, tied=tied)

    def environment(self) -> dict[str, str]:
        """The parameters of collector.yaml."""
        root = self.layout.collector
        environment = {
            "PATH": PATH,
            "GOMEMLIMIT": "1200MiB",
            "MLAUDIT_OTLP_ENDPOINT": f"127.0.0.1:{self.otlp_port}",
            "MLAUDIT_HEALTH_ENDPOINT": f"127.0.0.1:{self.health_port}",
            "MLAUDIT_METRICS_HOST": "127.0.0.1",
            "MLAUDIT_METRICS_PORT": str(self.metrics_port),
            "MLAUDIT_TOKENS_FILE": str(root / "tokens"),
            "MLAUDIT_QUEUE_DIR": str(root / "queue"),
            "MLAUDIT_NAMESPACE": self.namespace,
            "MLAUDIT_ELASTICSEARCH_URL": self.elasticsearch_url,
            "MLAUDIT_ELASTICSEARCH_CA_FILE": str(root / "ca.pem"),
            # Over loopback compression costs processor time and saves nothing.
            "MLAUDIT_ELASTICSEARCH_COMPRESSION": "none",
            "MLAUDIT_WRITER_USER": WRITER,
            "MLAUDIT_WRITER_PASSWORD_FILE": str(root / "writer.password"),
            "MLAUDIT_TELEMETRY_USER": TELEMETRY,
            "MLAUDIT_TELEMETRY_PASSWORD_FILE": str(root / "telemetry.password"),
        }
        if not self.elasticsearch_url.startswith("https:"):
            del environment["MLAUDIT_ELASTICSEARCH_CA_FILE"]
        if self.tls != "off":
            environment["MLAUDIT_OTLP_CERT_FILE"] = str(root / "otlp.crt")
            environment["MLAUDIT_OTLP_KEY_FILE"] = str(root / "otlp.key")
        if self.tls == "mutual":
            environment["MLAUDIT_OTLP_CLIENT_CA_FILE"] = str(root / "otlp-ca.pem")
        if self.archive is not None:
            environment["MLAUDIT_ARCHIVE_FILE"] = str(self.archive)
        return environment | dict(self.system or {})

    def wait(self, started: ProcessId) -> None:
        """Return when every pipeline runs.

        Raises:
            StackError: it ended or the deadline passed, with the last lines of its log.
        """

        def healthy() -> bool:
            try:
                return request("GET", f"http://127.0.0.1:{self.health_port}/")[0] == 200
            except urllib3.exceptions.HTTPError:
                return False

        process.wait_until(healthy, started, "the collector", self.log, START_SECONDS)

    def wait_admitted(self, token: str) -> None:
        """Return when a running collector accepts the token.

        Raises:
            StackError: it does not, within ten seconds.
        """
        deadline = time.monotonic() + ADMIT_SECONDS
        while self._status(token) == 401:
            if time.monotonic() > deadline:
                raise StackError(
                    f"the collector did not reload {self.layout.collector / 'tokens'}; see {self.log}"
                )
            time.sleep(0.05)

    def _status(self, token: str) -> int:
        """The status of an empty request with this token."""
        certificate, key = self.layout.client_certificate
        mutual = self.tls == "mutual"
        with urllib3.PoolManager(
            ca_certs=None if self.tls == "off" else str(self.layout.otlp_ca_file),
            cert_file=str(certificate) if mutual else None,
            key_file=str(key) if mutual else None,
            retries=False,
            timeout=10,
        ) as pool:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
            return pool.request("POST", f"{self.otlp_endpoint}/v1/logs", body=b"{}", headers=headers).status

    def _config_files(self) -> tuple[str, ...]:
        overlays = {
            "tls.yaml": self.tls != "off",
            "direct.yaml": self.direct,
            "archive.yaml": self.archive is not None,
            "system.yaml": self.system is not None,
            "kubernetes.yaml": "MLAUDIT_KUBERNETES_AUTH" in (self.system or {}),
        }
        return ("collector.yaml", *(name for name, wanted in overlays.items() if wanted))

    def _certify(self) -> None:
        layout, root = self.layout, self.layout.collector
        if not (root / "otlp.key").exists():
            made = make_certificates()
            layout.write(root / "otlp-ca.pem", made.authority)
            layout.write(root / "otlp.crt", made.certificate)
            layout.write(root / "otlp.key", made.key, secret=True)
            certificate, key = layout.client_certificate
            write_private(certificate, made.client_certificate)
            write_private(key, made.client_key)
        shutil.copyfile(root / "otlp-ca.pem", layout.otlp_ca_file)


def this_host() -> dict[str, str]:
    """Variables of system.yaml for this machine: its name, and where its kernel messages are.

    The collector reads only what its user may read.
    """
    journal = any(Path(folder, "journalctl").exists() for folder in PATH.split(":"))
    return {
        "MLAUDIT_HOST_NAME": socket.gethostname(),
        "MLAUDIT_HOST_LOGS": "[journald]" if journal else "[file_log/kernel]",
    }


def end_last_line(path: Path) -> None:
    """End a line that a killed collector left half written: the next record would be appended to it."""
    with path.open("rb+") as handle:
        if handle.seek(0, 2):
            handle.seek(-1, 2)
            if handle.read(1) != b"\n":
                handle.write(b"\n")
