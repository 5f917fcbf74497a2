"""One collector on the loopback interface: its environment, its start, its health."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import urllib3

from mlaudit.stack import process
from mlaudit.stack.collector_build import config_dir
from mlaudit.stack.credentials import TELEMETRY, WRITER
from mlaudit.stack.elasticsearch import request

if TYPE_CHECKING:
    from pathlib import Path

    from mlaudit.stack.credentials import Credentials
    from mlaudit.stack.layout import Layout
    from mlaudit.stack.process import ProcessId

START_SECONDS: Final = 60
STOP_SECONDS: Final = 10

# Request headers, tokens included, would otherwise be written into the queue's file (docs/collector.md).
FEATURE_GATES: Final = "--feature-gates=-exporter.PersistRequestContext"


@dataclass(frozen=True, slots=True)
class Collector:
    """A configured collector.

    Attributes:
        archive: OTLP-JSON-lines file that also gets every audit record; None for none.
    """

    layout: Layout
    binary: Path
    elasticsearch_url: str
    otlp_port: int
    health_port: int
    metrics_port: int
    namespace: str
    archive: Path | None

    @property
    def otlp_endpoint(self) -> str:
        """Where services send, without the ``/v1/logs``."""
        return f"http://127.0.0.1:{self.otlp_port}"

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
        layout.write(root / "tokens", f"{credentials.token} local\n", secret=True)
        layout.write(root / "writer.password", credentials.writer, secret=True)
        layout.write(root / "telemetry.password", credentials.telemetry, secret=True)
        if self.layout.ca_file.is_file():
            layout.write(root / "ca.pem", self.layout.ca_file.read_text())
        if self.archive is not None:
            self.archive.touch()
            layout.hand_over(self.archive, 0o600)

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
            "PATH": "/usr/bin:/bin",
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
        if self.archive is not None:
            environment["MLAUDIT_ARCHIVE_FILE"] = str(self.archive)
        return environment

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

    def _config_files(self) -> tuple[str, ...]:
        return ("collector.yaml",) if self.archive is None else ("collector.yaml", "archive.yaml")


def end_last_line(path: Path) -> None:
    """End a line that a killed collector left half written: the next record would be appended to it."""
    with path.open("rb+") as handle:
        if handle.seek(0, 2):
            handle.seek(-1, 2)
            if handle.read(1) != b"\n":
                handle.write(b"\n")
