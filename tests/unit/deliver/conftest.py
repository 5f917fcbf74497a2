from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def receiver() -> Iterator[object]:
    """A scripted OTLP receiver."""
    from tests.unit.deliver.receiver import Receiver

    running = Receiver()
    yield running
    running.close()
