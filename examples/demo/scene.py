"""The events of the demo: training, a model service with its users, and changes to both.

The audited programs are ``examples/training/train.py`` and ``examples/service/app.py``. Neither mentions
auditing; the environment in ``Scene.audited`` does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import joblib
import numpy as np
from sklearn.datasets import load_breast_cancer

from examples.programs import EXAMPLES, Server, audited, expect, python, run, serve
from mlaudit.stack.local_stack import Stack

PASSWORD = "open sesame"
USERS = {
    "alice": "analyst",
    "bob": "analyst",
    "carol": "analyst",
    "dave": "viewer",
    "erin": "admin",
}
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
        """The environment that audits a program: one switch, and the paths and addresses."""
        return audited(
            self.stack,
            self.folder / "state",
            service,
            MLAUDIT_POLICY=str(POLICY),
            MLAUDIT_WATCH=str(self.config),
            MLAUDIT_WATCH_SECONDS="0.2",
        )

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
        train = EXAMPLES / "training" / "train.py"
        return run(python(train, self.model), self.audited("tumour-training"), self.folder)

    def impersonate(self, service: str, sender: str) -> None:
        """A program that has ``sender``'s token writes into ``service``'s audit trail."""
        environment = self.audited(service) | {"MLAUDIT_TOKEN_FILE": str(self.stack.named_token_file(sender))}
        program = "import mlaudit; mlaudit.record('audit.app.approval.given', target='loan 42')"
        run(python("-c", program), environment, self.folder)

    def replace_model(self) -> None:
        """Replaces the registered model by another, without the audited training."""
        estimator = joblib.load(self.model)
        data = load_breast_cancer()
        estimator.fit(data.data, np.roll(data.target, 1))
        joblib.dump(estimator, self.model)

    @contextmanager
    def service(self) -> Iterator[Service]:
        """The running model service; stopped with SIGTERM at the end if it still runs."""
        environment = {
            **self.audited("tumour-service"),
            "MODEL_CONFIG": str(self.config),
            "MODEL_USERS": str(self.users),
        }
        command = python("-m", "uvicorn", "app:app", "--port", "{port}", "--no-access-log")
        with serve(command, environment, EXAMPLES / "service", self.folder / "service.log") as server:
            yield Service(server.process, server.url, server.log)


@dataclass(frozen=True)
class Service(Server):
    """One life of the model service, and its users."""

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
                expect(answer, 200)

    def predict_badly(self, name: str, count: int) -> None:
        """Predictions that the service rejects (too few features is a failure, no rows an invalid request)."""
        for number in range(count):
            invalid = number % 4 != 3
            with self.client(name) as client:  # uvicorn closes the connection after a failure
                answer = client.post("/predict", json={"rows": [] if invalid else [[1.0, 2.0]]})
            expect(answer, 422 if invalid else 500)

    def guess_passwords(self, name: str, count: int) -> None:
        """Calls with wrong passwords."""
        for number in range(count):
            with self.client(name, f"guess {number}") as client:
                expect(client.post("/predict", json={"rows": [[0.0] * 30]}), 401)

    def overstep(self, name: str, count: int) -> None:
        """Sends requests that the caller's role does not allow."""
        with self.client(name) as client:
            for _ in range(count):
                expect(client.put("/config", json={"threshold": 0.01}), 403)

    def set_threshold(self, name: str, threshold: float, **headers: str) -> None:
        """Changes the configuration through the admin route."""
        with self.client(name) as client:
            answer = client.put("/config", json={"threshold": threshold}, headers=headers)
            expect(answer, 200)


def _scrypt(name: str) -> str:
    return hashlib.scrypt(PASSWORD.encode(), salt=name.encode(), n=1 << 10, r=8, p=1, dklen=32).hex()
