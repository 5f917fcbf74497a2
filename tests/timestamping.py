"""A real time-stamping authority: ``openssl ts`` behind a small HTTP server, with a CA of its own."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
CONFIG = """
[tsa]
default_tsa = own
[own]
dir = {folder}
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
"""


@dataclass
class Authority:
    """Its address, its CA, and the requests; ``answer`` replaces its next responses."""

    folder: Path
    url: str = ""
    requests: list[bytes] = field(default_factory=list)
    answer: tuple[int, str, bytes] | None = None

    @property
    def ca(self) -> Path:
        """The certificate to trust."""
        return self.folder / "ca.pem"

    def reply(self, query: bytes) -> bytes:
        """The response of openssl to a query."""
        self.requests.append(query)
        asked = self.folder / f"query-{len(self.requests)}"
        asked.write_bytes(query)
        told = asked.with_suffix(".tsr")
        _openssl("ts", "-reply", "-config", self.folder / "ts.cnf", "-queryfile", asked, "-out", told)
        return told.read_bytes()


@contextmanager
def authority(folder: Path) -> Iterator[Authority]:
    """Runs one."""
    folder.mkdir(parents=True, exist_ok=True)
    own = Authority(folder)
    subject = f"/CN=Test CA of {folder.name}"
    _openssl("req", "-x509", *NEW_KEY, "-days", "2", "-subj", subject,
             "-keyout", folder / "ca.key", "-out", folder / "ca.pem")  # fmt: skip
    _openssl("req", *NEW_KEY, "-subj", "/CN=Test TSA",
             "-keyout", folder / "tsa.key", "-out", folder / "tsa.csr")  # fmt: skip
    (folder / "ext.cnf").write_text("extendedKeyUsage = critical,timeStamping\n")
    _openssl("x509", "-req", "-in", folder / "tsa.csr", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key",
             "-CAcreateserial", "-days", "2", "-extfile", folder / "ext.cnf", "-out", folder / "tsa.pem")  # fmt: skip
    (folder / "serial").write_text("01\n")
    (folder / "ts.cnf").write_text(CONFIG.format(folder=folder))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["content-length"]))
            status, kind, body = own.answer or (200, "application/timestamp-reply", own.reply(query))
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    own.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield own
    finally:
        server.shutdown()
        server.server_close()


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)
