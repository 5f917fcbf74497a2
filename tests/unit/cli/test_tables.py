"""Tables on narrow terminals and in pipes: what identifies a row is whole, whatever the command."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from mlaudit.cli import detect, policy, stack, status
from mlaudit.cli.coverage_report import print_coverage
from mlaudit.cli.verify_report import print_report
from mlaudit.detect.compiled_rule import Alert
from mlaudit.health.status import SpoolStatus
from mlaudit.health.streams import StreamStatus
from mlaudit.policy.evaluate import Facts
from mlaudit.policy.explain import explain
from mlaudit.policy.load import load_policy
from mlaudit.stack.process import ProcessId
from mlaudit.stack.state import State
from mlaudit.verify.proof.summary import StreamSummary
from mlaudit.verify.repair.coverage import Local, StreamCoverage
from mlaudit.verify.repair.measure import Coverage
from mlaudit.verify.report import Report

# Each is wider than half of a narrow terminal.
STREAM = "019ab8a1-7c3e-7d20-9a51-0f4c2b9e6d11-of-a-service"
SERVICE = "credit-risk-scoring-of-the-northern-region"


def _verify(console: Console) -> None:
    summary = StreamSummary(STREAM, records=5, first=1, last=5, last_signed=3, unsigned=2, service=SERVICE)
    print_report(Report("archive", 5, [summary]), console)


def _coverage(console: Console) -> None:
    found = StreamCoverage(STREAM)
    print_coverage(Coverage({STREAM: found}, None, Local(Path("/nowhere"), [])), console)  # type: ignore[arg-type]


def _status(console: Console) -> None:
    one = StreamStatus(STREAM, "alive")
    one.service = SERVICE
    status.show(SpoolStatus("/spool", [one], free_bytes=1 << 40), console)


def _detect(console: Console) -> None:
    time = "2026-11-25T03:20:00.000000000Z"
    alert = Alert("i", "r", "t", "low", 1, {SERVICE: STREAM}, {}, time, time)
    now = datetime.now(UTC)
    detect.show([alert], now, now, console)


def _policy(console: Console) -> None:
    found = explain(load_policy(None), Facts("audit.ml.prediction", SERVICE, "/predict", STREAM, ""))
    policy.show_explanation(found, f"{STREAM} {SERVICE}", console)


@pytest.mark.parametrize("show", [_verify, _coverage, _status, _detect], ids=lambda one: one.__name__)
@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize("terminal", [True, False])
def test_ids_are_whole(show: Callable[[Console], None], width: int, terminal: bool) -> None:
    """Streams and services are on one line, and nothing is cut, at any width."""
    out = io.StringIO()
    show(Console(file=out, width=width, force_terminal=terminal, color_system=None, soft_wrap=True))
    assert STREAM in out.getvalue()
    if show is not _coverage:
        assert SERVICE in out.getvalue()
    assert "…" not in out.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80])
def test_an_explanation_is_not_cut(width: int) -> None:
    """The rules and the reasons of an explanation fold."""
    out = io.StringIO()
    _policy(Console(file=out, width=width, force_terminal=True, color_system=None, soft_wrap=True))
    assert "…" not in out.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_stack_names_its_addresses(width: int) -> None:
    """Addresses can be copied: none is broken over two lines."""
    process = ProcessId(1, "1")
    values = {
        one.name: "https://a-long-name-of-a-host.example.org:9200/otlp/v1/logs"
        for one in dataclasses.fields(State)
    }
    values |= {"elasticsearch": process, "collector": process}  # type: ignore[dict-item]
    out = io.StringIO()
    stack.show(
        Console(file=out, width=width, force_terminal=True, color_system=None, soft_wrap=True),
        State(**values),  # type: ignore[arg-type]
    )
    assert out.getvalue().count("https://a-long-name-of-a-host.example.org:9200/otlp/v1/logs") == 6
