"""Fixtures for tests of a pipeline on a real spool with a scripted receiver."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.deliver.receiver import Receiver

from mlaudit.pipeline import current
from mlaudit.pipeline.backend import SpoolBackend
from mlaudit.pipeline.pipeline import Pipeline
from mlaudit.settings import Settings


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A scripted OTLP receiver."""
    running = Receiver()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but the test's own."""
    for name in [name for name in os.environ if name.startswith(("MLAUDIT_", "OTEL_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Pipeline]]:
    """Starts a pipeline on a real spool and makes it the current one; the keywords are ``MLAUDIT_*`` settings."""
    started: list[Pipeline] = []
    before = current.running()

    def begin(endpoint: str = "http://127.0.0.1:9", **more: str) -> Pipeline:
        env = {"STATE_DIR": str(tmp_path), "ENDPOINT": endpoint, "SERVICE_NAME": "shop", **more}
        settings = Settings.from_env({f"MLAUDIT_{name}": value for name, value in env.items()})
        made = Pipeline(settings, SpoolBackend(settings))
        current.install(made)
        made.open()
        started.append(made)
        return made

    yield begin
    current.install(before)
    for made in started:
        made.close("the test is over", 0.0)
