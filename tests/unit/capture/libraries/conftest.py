"""Code under audit with the library hooks set, without anything else that switching on does."""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from threadpoolctl import threadpool_limits

from mlaudit.capture import instrumentor
from mlaudit.capture.integrations import INTEGRATIONS
from mlaudit.capture.libraries import calls, hooks, joblib, sklearn
from mlaudit.event import new_record_id
from mlaudit.testing import capture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from mlaudit.testing import AuditLog


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
    assert calls.inside.get() is False


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
        assert calls.inside.get() is False

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
