"""What happens in the demo: training, a model service with its users, and changes to both.

The audited programs are ``examples/training/train.py`` and ``examples/service/app.py``. Neither says a word about
auditing; the environment in ``Scene.audited`` does.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import joblib
import numpy as np
from sklearn.datasets import load_breast_cancer

from mlaudit.stack.local import Stack

EXAMPLES = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0
STOP_SECONDS = 30.0
PASSWORD = "open sesame"
USERS = {
    "alice": "analyst",
    "bob": "analyst",
    "carol": "analyst",
    "dave": "viewer",
    "erin": "admin",
}
ENDS = ("audit.stream.ended", "audit.stream.abandoned")
POLICY = EXAMPLES / "service" / "audit-policy.yaml"


@dataclass(frozen=True)
class Scene:
    """Files of one run, all under ``folder``, and the stack that receives the records."""

    folder: Path
    stack: Stack

    @property
    def model(self) -> Path:
        """The artifact that training writes and the service loads."""
        return self.folder / "model.joblib"

    @property
    def config(self) -> Path:
        """The service's configuration file."""
        return self.folder / "config.json"

    @property
    def users(self) -> Path:
        """Who may call the service."""
        return self.folder / "users.json"

    def audited(self, service: str) -> dict[str, str]:
        """The environment that audits a program: one switch, and where things are."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("MLAUDIT_", "OTEL_"))
        }
        return {
            **inherited,
            "MLAUDIT_ENABLED": "true",
            "MLAUDIT_POLICY": str(POLICY),
            "MLAUDIT_STATE_DIR": str(self.folder / "state"),
            "MLAUDIT_TOKEN_FILE": str(self.stack.token_file),
            "MLAUDIT_WATCH": str(self.config),
            "MLAUDIT_WATCH_SECONDS": "0.2",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.stack.otlp_endpoint,
            "OTEL_SERVICE_NAME": service,
            "OTEL_RESOURCE_ATTRIBUTES": "service.version=1.4.0,deployment.environment.name=production",
        }

    def prepare(self) -> None:
        """Writes the service's configuration and users."""
        self.configure(threshold=0.5)
        self.users.write_text(
            json.dumps({name: {"role": role, "password": _scrypt(name)} for name, role in USERS.items()})
        )

    def configure(self, threshold: float) -> None:
        """Writes the configuration file, as an operator's editor would."""
        self.config.write_text(json.dumps({"model": str(self.model), "threshold": threshold}, indent=2))

    def train(self) -> str:
        """Runs the training script; returns what it printed."""
        command = [sys.executable, str(EXAMPLES / "training" / "train.py"), str(self.model)]
        done = subprocess.run(
            command, env=self.audited("tumour-training"), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"the training script failed:\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def impersonate(self, service: str, sender: str) -> None:
        """A program that has ``sender``'s token writes into ``service``'s audit trail."""
        environment = self.audited(service) | {"MLAUDIT_TOKEN_FILE": str(self.stack.named_token_file(sender))}
        program = "import mlaudit; mlaudit.record('audit.app.approval.given', target='loan 42')"
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"the impersonating program failed:\n{done.stdout}{done.stderr}")

    def replace_model(self) -> None:
        """Puts another model in the place of the registered one, past the audited training."""
        estimator = joblib.load(self.model)
        data = load_breast_cancer()
        estimator.fit(data.data, np.roll(data.target, 1))
        joblib.dump(estimator, self.model)

    @contextmanager
    def service(self) -> Iterator[Service]:
        """The running model service; stopped with SIGTERM at the end if it still runs."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {
            **self.audited("tumour-service"),
            "MODEL_CONFIG": str(self.config),
            "MODEL_USERS": str(self.users),
        }
        command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), "--no-access-log"]
        with (self.folder / "service.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=environment, cwd=EXAMPLES / "service", stdout=log, stderr=subprocess.STDOUT
            )
        service = Service(process, f"http://127.0.0.1:{port}", self.folder / "service.log")
        try:
            service.wait_until_up()
            yield service
        finally:
            service.stop()


@dataclass(frozen=True)
class Service:
    """One life of the model service."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def wait_until_up(self) -> None:
        """Returns when the service answers its health check."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/health").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise SystemExit(f"the service did not start:\n{self.log.read_text(errors='replace')[-4000:]}")

    def stop(self) -> None:
        """Stops it as an orchestrator does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    def client(self, name: str, password: str = PASSWORD) -> httpx.Client:
        """A client that calls as ``name``."""
        return httpx.Client(base_url=self.url, auth=(name, password), timeout=30)

    def predict(self, name: str, count: int, rows: int = 1) -> None:
        """``count`` good predictions."""
        data = load_breast_cancer().data
        with self.client(name) as client:
            for number in range(count):
                start = (number * rows) % (len(data) - rows)
                answer = client.post("/predict", json={"rows": data[start : start + rows].tolist()})
                _expect(answer, 200)

    def predict_badly(self, name: str, count: int) -> None:
        """Predictions that the service refuses (too few features is a failing one, no rows an invalid one)."""
        for number in range(count):
            invalid = number % 4 != 3
            with self.client(name) as client:  # uvicorn closes the connection after a failure
                answer = client.post("/predict", json={"rows": [] if invalid else [[1.0, 2.0]]})
            _expect(answer, 422 if invalid else 500)

    def guess_passwords(self, name: str, count: int) -> None:
        """Calls with wrong passwords."""
        for number in range(count):
            with self.client(name, f"guess {number}") as client:
                _expect(client.post("/predict", json={"rows": [[0.0] * 30]}), 401)

    def overstep(self, name: str, count: int) -> None:
        """Calls that the caller's role does not allow."""
        with self.client(name) as client:
            for _ in range(count):
                _expect(client.put("/config", json={"threshold": 0.01}), 403)

    def set_threshold(self, name: str, threshold: float, **headers: str) -> None:
        """Changes the configuration through the admin route."""
        with self.client(name) as client:
            answer = client.put("/config", json={"threshold": threshold}, headers=headers)
            _expect(answer, 200)


def _expect(answer: httpx.Response, status: int) -> None:
    if answer.status_code != status:
        raise SystemExit(
            f"{answer.request.method} {answer.request.url.path}: expected {status}, found {answer.status_code}: "
            f"{answer.text[:300]}"
        )


def _scrypt(name: str) -> str:
    return hashlib.scrypt(PASSWORD.encode(), salt=name.encode(), n=1 << 10, r=8, p=1, dklen=32).hex()


def sealed_records(archive: Path) -> dict[str, dict[str, Any]]:
    """The records of the archive by id: what the programs sealed and the collector received."""
    records: dict[str, dict[str, Any]] = {}
    *lines, _ = archive.read_text().split("\n")  # what stands behind the last newline is being written
    for line in lines:
        for resource in json.loads(line)["resourceLogs"]:
            for scope in resource["scopeLogs"]:
                for entry in scope["logRecords"]:
                    record = json.loads(entry["body"]["stringValue"])
                    records[record["audit.record.id"]] = record
    return records


def is_complete(records: dict[str, dict[str, Any]]) -> bool:
    """Whether every stream is there from its first record to the one that ends it."""
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
