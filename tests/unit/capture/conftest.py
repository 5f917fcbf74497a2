"""An ASGI server of a few lines, and code under audit with library hooks set and nothing else switched on."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from threadpoolctl import threadpool_limits

from mlaudit.capture import hooks, instrumentor
from mlaudit.capture.integrations import INTEGRATIONS
from mlaudit.capture.libraries import joblib, sklearn
from mlaudit.capture.models import known_models
from mlaudit.capture.nesting import inside
from mlaudit.capture.process import audit_hooks
from mlaudit.capture.process.background import background
from mlaudit.event import new_record_id
from mlaudit.testing import AuditLog, capture


@dataclass
class Heard:
    """What the client was sent, and what the application raised."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def status(self) -> int:
        return next((m["status"] for m in self.messages if m["type"] == "http.response.start"), 0)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(next((m["headers"] for m in self.messages if m["type"] == "http.response.start"), []))

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.messages if m["type"] == "http.response.body")

    @property
    def complete(self) -> bool:
        return any(m["type"] == "http.response.body" and not m.get("more_body") for m in self.messages)


@dataclass
class Ask:
    """Sends one request to an application; ``on_message`` sees each message before the client has it."""

    on_message: Callable[[dict[str, Any]], None] | None = None

    def __call__(
        self,
        app: Any,
        method: str = "GET",
        path: str = "/",
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | Sequence[bytes] = b"",
        query: bytes = b"",
        **scope: Any,
    ) -> Heard:
        return asyncio.run(self.send(app, method, path, headers=headers, body=body, query=query, **scope))

    async def send(
        self,
        app: Any,
        method: str = "GET",
        path: str = "/",
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | Sequence[bytes] = b"",
        query: bytes = b"",
        **scope: Any,
    ) -> Heard:
        heard = Heard()
        chunks = [body] if isinstance(body, bytes) else list(body)
        incoming = [
            {"type": "http.request", "body": chunk, "more_body": index < len(chunks) - 1}
            for index, chunk in enumerate(chunks)
        ]

        async def receive() -> dict[str, Any]:
            return incoming.pop(0) if incoming else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if self.on_message is not None:
                self.on_message(message)
            heard.messages.append(message)

        whole = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
            "client": ("198.51.100.7", 4711),
            "server": ("127.0.0.1", 80),
            "state": {},
            **scope,
        }
        try:
            await app(whole, receive, send)
        except BaseException as error:  # noqa: BLE001 - what a server would see
            heard.error = error
        return heard


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No thread and no hook of the runtime is left of an earlier test, and no listener to models that are loaded."""
    monkeypatch.setattr(known_models, "_listeners", [])
    audit_hooks.uninstall()
    yield
    background.finish()


@pytest.fixture
def ask() -> Ask:
    """Sends requests to an ASGI application, see ``Ask``."""
    return Ask()


@pytest.fixture
def auditing() -> Iterator[Callable[..., AbstractContextManager[AuditLog]]]:
    """``capture(...)`` with the hooks into scikit-learn and joblib; they are as they were afterwards."""
    integrations = [sklearn.SklearnIntegration(), joblib.JoblibIntegration()]
    were_set = [sklearn.is_instrumented(), joblib.is_instrumented()]
    for integration in integrations:
        integration.instrument()

    @contextmanager
    def start(policy: str | None = None, env: dict[str, str] | None = None) -> Iterator[AuditLog]:
        # Threads that spin for a matrix of 150 rows cost more than the tests themselves.
        with threadpool_limits(1), capture(policy, env, instrument=False) as log:
            yield log

    yield start
    for integration, was_set in zip(integrations, were_set, strict=True):
        if not was_set:
            integration.uninstrument()
    assert inside.get() is False


@pytest.fixture
def log(auditing: Callable[..., AbstractContextManager[AuditLog]]) -> Iterator[AuditLog]:
    """The records under the built-in policy."""
    with auditing() as audit_log:
        yield audit_log


@pytest.fixture
def hooked() -> Callable[..., AbstractContextManager[AuditLog]]:
    """Audits code with the hooks of the integrations that the test names, and of no others."""

    @contextmanager
    def start(
        *names: str, policy: str | None = None, env: dict[str, str] | None = None
    ) -> Iterator[AuditLog]:
        # Whatever an earlier test switched on: the hooks of this one are then its own, and taken out with it.
        instrumentor.deactivate()
        registrations = [one for one in INTEGRATIONS if one.name in names]
        assert sorted(one.name for one in registrations) == sorted(names)
        integrations = []
        try:
            with threadpool_limits(1), capture(policy, env, instrument=False) as log:
                for registration in registrations:
                    importlib.import_module(registration.module)
                    integrations.append(registration.load())
                    integrations[-1].instrument()
                yield log
        finally:
            for integration in reversed(integrations):
                integration.uninstrument()
        assert inside.get() is False

    return start


@pytest.fixture(params=["before", "after"])
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every hook made with ``hooks.Hooks`` raises, before the library's call or after it."""

    def raises(*_: Any) -> Any:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(hooks, "start" if request.param == "before" else "finish", raises)
    return str(request.param)


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of an MLflow store of this machine, for all tests: making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'store.db'}"


@pytest.fixture
def store(mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """MLflow with a store of its own, no network, and nothing under way."""
    mlflow = importlib.import_module("mlflow")
    for name in ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_USERNAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_REGISTRY_URI"):
        # Set and taken away, so that what MLflow writes there meanwhile is taken back.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    # Found out in a process of its own, which takes ten seconds.
    monkeypatch.setattr(mlflow.models, "infer_pip_requirements", lambda *_, **__: [])
    monkeypatch.chdir(tmp_path)
    # Set here too, so that it is taken back: MLflow writes it into the environment.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
    mlflow.set_tracking_uri(mlflow_store)
    mlflow.set_registry_uri(mlflow_store)
    mlflow.set_experiment(f"experiment-{new_record_id()}")
    yield mlflow_store
    while mlflow.active_run() is not None:
        mlflow.end_run()
