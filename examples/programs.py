"""Runs the example programs: audited by their environment alone, as jobs and as servers, with a graceful stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from mlaudit.stack.local_stack import Stack

EXAMPLES = Path(__file__).resolve().parent
START_SECONDS = 60.0
STOP_SECONDS = 30.0
ENDS = ("audit.stream.ended", "audit.stream.abandoned")


def audited(stack: Stack, state: Path, service: str, **more: str) -> dict[str, str]:
    """The environment that audits a program: one switch, and the paths and addresses."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("MLAUDIT_", "OTEL_"))
    }
    return {
        **inherited,
        "MLAUDIT_ENABLED": "true",
        "MLAUDIT_STATE_DIR": str(state),
        "MLAUDIT_TOKEN_FILE": str(stack.token_file),
        "OTEL_EXPORTER_OTLP_ENDPOINT": stack.otlp_endpoint,
        "OTEL_SERVICE_NAME": service,
        "OTEL_RESOURCE_ATTRIBUTES": "service.version=1.4.0,deployment.environment.name=production",
        **more,
    }


def run(command: Sequence[str | Path], environment: Mapping[str, str], folder: Path) -> str:
    """Runs an example program to its end in ``folder``; returns its output."""
    done = subprocess.run(
        [str(part) for part in command],
        env=dict(environment),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        shown = " ".join(str(part) for part in command)
        raise SystemExit(f"{shown} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout.strip()


def python(*arguments: str | Path) -> list[str | Path]:
    """A command of this environment's Python."""
    return [sys.executable, *arguments]


@dataclass(frozen=True)
class Server:
    """One life of a server."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def wait_until_up(self, health: str) -> None:
        """Returns when the server answers ``health``."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}{health}").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise SystemExit(f"the server did not start:\n{self.log.read_text(errors='replace')[-4000:]}")

    def stop(self) -> None:
        """Stops it as an orchestrator does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(STOP_SECONDS)


@contextmanager
def serve(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    folder: Path,
    log: Path,
    health: str = "/health",
) -> Iterator[Server]:
    """A running server, stopped with SIGTERM at the end; ``{port}`` in its command is a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(part).replace("{port}", str(port)) for part in command],
            env=dict(environment),
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = Server(process, f"http://127.0.0.1:{port}", log)
    try:
        server.wait_until_up(health)
        yield server
    finally:
        server.stop()


def expect(answer: httpx.Response, status: int) -> None:
    """Ends the example when a server responds differently."""
    if answer.status_code != status:
        raise SystemExit(
            f"{answer.request.method} {answer.request.url.path}: expected {status}, found {answer.status_code}: "
            f"{answer.text[:300]}"
        )


def sealed_records(archive: Path) -> dict[str, dict[str, Any]]:
    """The records of the archive by id: what the programs sealed and the collector received."""
    records: dict[str, dict[str, Any]] = {}
    *lines, _ = archive.read_text().split("\n")  # the text after the last newline is being written
    for line in lines:
        for resource in json.loads(line)["resourceLogs"]:
            for scope in resource["scopeLogs"]:
                for entry in scope["logRecords"]:
                    record = json.loads(entry["body"]["stringValue"])
                    records[record["audit.record.id"]] = record
    return records


def is_complete(records: Mapping[str, dict[str, Any]]) -> bool:
    """Whether every stream is complete from its first record to its end."""
    streams: dict[str, list[dict[str, Any]]] = {}
    for record in records.values():
        streams.setdefault(record["audit.sequence.stream_id"], []).append(record)
    return bool(streams) and all(
        any(
            record["audit.kind"] in ENDS and record["audit.sequence.number"] == len(stream)
            for record in stream
        )
        for stream in streams.values()
    )
