"""One Elasticsearch node on the loopback interface: its configuration, its start, its health."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import urllib3

from mlaudit.errors import StackError
from mlaudit.install.packaged import FOLDER
from mlaudit.stack import process
from mlaudit.stack.certificates import make_certificates
from mlaudit.stack.credentials import ADMIN, READER, TELEMETRY, WRITER, password_hash

if TYPE_CHECKING:
    from pathlib import Path

    from mlaudit.stack.credentials import Credentials
    from mlaudit.stack.process import ProcessId
    from mlaudit.stack.stack_layout import Layout

START_SECONDS: Final = 180
STOP_SECONDS: Final = 30
HEAP: Final = "1g"

SUPERUSER: Final = "superuser"
MEMBERS: Final = {
    SUPERUSER: ADMIN,
    "mlaudit_writer": WRITER,
    "mlaudit_telemetry": TELEMETRY,
    "mlaudit_reader": READER,
    "mlaudit_alerts": READER,
}

# This server has no role API: the very roles that `mlaudit install` gives a full one, as a file.
_ROLES: Final = FOLDER / "full" / "roles"


@dataclass(frozen=True, slots=True)
class Elasticsearch:
    """A configured node.

    Attributes:
        tls: whether the HTTP interface speaks TLS with a certificate of the stack's own authority.
        quick: start 2 to 3 s sooner for less throughput (only the first of the JVM's two compilers).
    """

    layout: Layout
    home: Path
    java_home: Path
    http_port: int
    transport_port: int
    tls: bool
    quick: bool

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.http_port}"

    @property
    def log(self) -> Path:
        """What the process printed."""
        return self.layout.logs / "elasticsearch.log"

    def configure(self, credentials: Credentials) -> None:
        """Write the node's configuration folder."""
        layout, root = self.layout, self.layout.elasticsearch
        root.mkdir(exist_ok=True)
        layout.hand_over(root, 0o700)
        for name in ("config", "config/jvm.options.d", "data", "logs", "tmp", "snapshots"):
            (root / name).mkdir(exist_ok=True)
            layout.hand_over(root / name, 0o700)
        config = root / "config"
        shutil.copyfile(self.home / "config/log4j2.properties", config / "log4j2.properties")
        layout.hand_over(config / "log4j2.properties", 0o644)
        if self.tls and not (config / "http.key").exists():
            made = make_certificates()
            layout.write(config / "http.key", made.key, secret=True)
            layout.write(config / "http.crt", made.certificate)
            layout.write(config / "ca.pem", made.authority)
        if self.tls:
            shutil.copyfile(config / "ca.pem", layout.ca_file)
        layout.write(config / "elasticsearch.yml", self._settings())
        layout.write(config / "jvm.options", self._jvm_options())
        layout.write(config / "roles.yml", _roles())
        hashes = [f"{user}:{password_hash(secret)}\n" for user, secret in credentials.users().items()]
        layout.write(config / "users", "".join(hashes), secret=True)
        members = "".join(f"{role}:{user}\n" for role, user in MEMBERS.items())
        layout.write(config / "users_roles", members)

    def start(self, *, tied: bool) -> ProcessId:
        """Start the process; it is not yet healthy."""
        root = self.layout.elasticsearch
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(root / "tmp"),
            "LANG": "C.UTF-8",
            "ES_JAVA_HOME": str(self.java_home),
            "ES_PATH_CONF": str(root / "config"),
            "ES_TMPDIR": str(root / "tmp"),
            # The launcher is a JVM of its own that lives for a second: no time for optimising compilers.
            "CLI_JAVA_OPTS": "-Xms4m -Xmx64m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto",
        }
        arguments = [str(self.home / "bin/elasticsearch")]
        return process.start(
            process.Command("Elasticsearch", arguments, environment, self.log, self.layout.uid), tied=tied
        )

    def wait(self, started: ProcessId, credentials: Credentials) -> None:
        """Return when the node answers an authenticated health request.

        Raises:
            StackError: it ended or the deadline passed, with the last lines of its log.
        """
        auth = (ADMIN, credentials.admin)
        ca_file = self.layout.ca_file if self.tls else None

        def healthy() -> bool:
            try:
                status, body = request("GET", f"{self.url}/_cluster/health", auth=auth, ca_file=ca_file)
            except urllib3.exceptions.HTTPError:
                return False
            return status == 200 and body.get("status") in ("yellow", "green")

        process.wait_until(healthy, started, "Elasticsearch", self.log, START_SECONDS)

    def _settings(self) -> str:
        root = self.layout.elasticsearch
        settings = {
            "cluster.name": "mlaudit",
            "node.name": "local",
            "network.host": "127.0.0.1",
            "http.port": self.http_port,
            "transport.port": self.transport_port,
            "discovery.type": "single-node",
            "path.data": str(root / "data"),
            "path.logs": str(root / "logs"),
            "path.repo": [str(root / "snapshots")],
            "xpack.security.enabled": True,
            "xpack.security.autoconfiguration.enabled": False,
            "xpack.security.http.ssl.enabled": self.tls,
            # A developer's disk is often more than 90 % full, which alone would block every write.
            "cluster.routing.allocation.disk.threshold_enabled": False,
        }
        if self.tls:
            settings |= {
                "xpack.security.http.ssl.key": "http.key",
                "xpack.security.http.ssl.certificate": "http.crt",
            }
        return "".join(f"{name}: {json.dumps(value)}\n" for name, value in settings.items())

    def _jvm_options(self) -> str:
        root = self.layout.elasticsearch
        return "\n".join(
            (
                f"-Xms{HEAP}",
                f"-Xmx{HEAP}",
                "-XX:+UseSerialGC",
                "-XX:+ExitOnOutOfMemoryError",
                "-Djava.io.tmpdir=${ES_TMPDIR}",
                f"-XX:ErrorFile={root / 'logs'}/hs_err_pid%p.log",
                "20-:--add-modules=jdk.incubator.vector",
                "-XX:TieredStopAtLevel=1" if self.quick else "",
                "",
            )
        )


def _roles() -> str:
    """One role a line: Elasticsearch reads this file role by role, each from a line that is not indented."""
    texts = {name: (_ROLES / f"{name}.json").read_text() for name in MEMBERS if name != SUPERUSER}
    # JSON is YAML.
    return "".join(f"{name}: {json.dumps(json.loads(text))}\n" for name, text in texts.items())


def request(
    method: str,
    url: str,
    *,
    auth: tuple[str, str] | None = None,
    ca_file: Path | None = None,
    body: object = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, object]]:
    """One HTTP request with a JSON answer: status and the answer's object (empty if it is not an object).

    Raises:
        urllib3.exceptions.HTTPError: no answer.
        StackError: the CA file cannot be read.
    """
    sent = dict(headers or {})
    if auth is not None:
        sent |= urllib3.make_headers(basic_auth=":".join(auth))
    if ca_file is not None and not ca_file.is_file():
        raise StackError(
            f"expected the stack's CA certificate at {ca_file}, found nothing; start the stack again"
        )
    with urllib3.PoolManager(ca_certs=str(ca_file) if ca_file else None, retries=False, timeout=10) as pool:
        answer = pool.request(method, url, json=body, headers=sent)
    try:
        parsed = answer.json()
    except ValueError:
        parsed = {}
    return answer.status, parsed if isinstance(parsed, dict) else {}
