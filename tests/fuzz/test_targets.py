"""Every fuzz target on its corpus, and on bytes that hypothesis generates, for a bounded time; see ``make fuzz``."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.fuzz.targets import TARGETS
from tests.fuzz.targets.encode import close_audit_log

CORPUS = Path(__file__).parent / "corpus"
# Number of inputs that fit into about two seconds.
EXAMPLES = {
    "policy": 150, "frames": 800, "spool": 150, "verify-spool": 100, "verify-archive": 150,
    "verify-documents": 200, "notes": 800,
    "asgi": 800, "answer": 1500, "encode": 800, "redaction": 150,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """The shared trail ends with these tests, and the errors that they provoke are not logged."""
    logger = logging.getLogger("mlaudit")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)
    close_audit_log()


def made_up(size: int) -> st.SearchStrategy[bytes]:
    """Short bytes that hypothesis can shrink, and longer ones from a seed."""
    seeded = st.builds(
        lambda seed, length: random.Random(seed).randbytes(length),
        st.integers(0, 2**32),
        st.integers(1, size),
    )
    return st.one_of(st.binary(max_size=64), seeded)


def test_every_target_has_a_number_of_examples_and_a_corpus() -> None:
    """Every target is listed with a number of examples and has a corpus."""
    assert set(EXAMPLES) == set(TARGETS)
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)


@pytest.mark.parametrize(
    "path", sorted(CORPUS.rglob("*.bin")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_known_inputs_keep_every_promise(path: Path) -> None:
    """Inputs that once broke something, and inputs with high coverage, keep every promise."""
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_made_up_inputs_keep_every_promise(name: str) -> None:
    """No generated input breaks a target's promise; every run uses the same inputs."""

    @settings(
        max_examples=EXAMPLES[name],
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(made_up(600))
    def holds(data: bytes) -> None:
        TARGETS[name](data)

    holds()
