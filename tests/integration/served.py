"""Real processes under audit: a service behind a real server, and the records that its spool holds."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from mlaudit.deliver.spool import files, layout

SERVICE = """
import threading, time
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from opentelemetry import trace

app = FastAPI()

@app.get("/status")
async def ping():
    return {"ok": True}

@app.post("/predict")
def predict(rows: list[float]):
    with trace.get_tracer("llm").start_as_current_span("chat") as span:
        span.set_attribute("gen_ai.operation.name", "chat")
        span.set_attribute("gen_ai.request.model", "gpt-x")
    return {"sum": sum(rows)}

@app.get("/stream")
async def stream():
    return StreamingResponse(iter([b"a" * 1000] * 3))

@app.get("/log")
async def log():
    import logging
    logging.getLogger("shop").warning("an ordinary line")
    return {}
"""


@dataclass
class Process:
    """A started program and what it has printed."""

    popen: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def wait_for(self, pattern: str, timeout: float = 60) -> re.Match[str]:
        """The first line that matches; fails with everything printed when the program ends or time is over."""
        deadline = time.monotonic() + timeout
        seen = 0
        with self._news:
            while True:
                for line in self.lines[seen:]:
                    seen += 1
                    if found := re.search(pattern, line):
                        return found
                left = deadline - time.monotonic()
                if left <= 0 or not self._reader.is_alive():
                    raise AssertionError(f"expected {pattern!r}, found:\n{''.join(self.lines)}")
                self._news.wait(min(left, 0.2))

    def stop(self, number: int = signal.SIGTERM, timeout: float = 30) -> int:
        """Sends a signal and waits for the end; returns the exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        code = self.popen.wait(timeout)
        self._reader.join(timeout)
        return code

    @property
    def output(self) -> str:
        return "".join(self.lines)


def environment(state: Path, **more: str) -> dict[str, str]:
    """An environment with auditing on and an endpoint without a listener."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLAUDIT_", "OTEL_", "PYTHON")) and name != "COVERAGE_PROCESS_START"
    }
    return {
        **env,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
        "MLAUDIT_ENABLED": "true",
        "MLAUDIT_SERVICE_NAME": "served",
        "MLAUDIT_STATE_DIR": str(state),
        "MLAUDIT_ENDPOINT": "http://127.0.0.1:9/v1/logs",
        "MLAUDIT_SHUTDOWN_SECONDS": "0.1",
        **more,
    }


@contextlib.contextmanager
def started(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> Iterator[Process]:
    """Runs a command in a folder and ends it with the block."""
    process = Process(
        subprocess.Popen(
            command,
            cwd=folder,
            env=dict(env),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.popen.pid, signal.SIGKILL)
        process.popen.wait(30)


def records(state: Path) -> list[dict[str, Any]]:
    """Every record in the spool below a state folder, stream by stream, in order."""
    found = []
    for stream in layout.streams(state / "spool"):
        for segment in layout.segments(stream):
            frames, torn = files.read_frames(segment)
            assert torn == 0, f"{segment} has a torn end"
            found += [orjson.loads(LogRecord.FromString(frame.payload).body.string_value) for frame in frames]
    return found


def of(kind: str, among: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records of one kind."""
    return [record for record in among if record["audit.kind"] == kind]


def request(
    port: int, method: str = "GET", path: str = "/status", body: bytes | None = None, **headers: str
) -> tuple[int, bytes]:
    """One request to the local service; status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            sent["Content-Type"] = "application/json"
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Load:
    """Clients that send requests until the service is gone, and remember which requests were answered in full."""

    def __init__(self, port: int, path: str = "/status", clients: int = 4) -> None:
        self.answered: list[str] = []
        self._port = port
        self._path = path
        self._threads = [threading.Thread(target=self._ask, args=(n,), daemon=True) for n in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(30)

    def wait(self, answers: int) -> None:
        """Waits for this number of responses."""
        deadline = time.monotonic() + 60
        while len(self.answered) < answers:
            assert time.monotonic() < deadline, f"expected {answers} answers, found {len(self.answered)}"
            time.sleep(0.01)

    def _ask(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        count = 0
        while True:
            name = f"client-{number}-{count}"
            count += 1
            try:
                connection.request("GET", self._path, headers={"X-Request-ID": name})
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                return
            if answer.status == 200:
                self.answered.append(name)
