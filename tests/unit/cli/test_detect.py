"""What mlaudit detect prints, and its exit codes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from rich.console import Console

from mlaudit import cli
from mlaudit.cli import detect
from mlaudit.detect.compiled_rule import Alert
from mlaudit.detect.look import beginning
from mlaudit.errors import SourceError

NOW = datetime(2026, 11, 25, 3, 30, tzinfo=UTC)
ALERT = Alert(
    rule_id="5f5b8ad3-a330-4515-befd-bd948ec34055",
    rule="prediction-flood",
    title="ML Prediction Flood By One Actor",
    level="high",
    count=204,
    group={"audit.actor.id": "mallory"},
    entities={"audit.actor.id": ["mallory"], "source.ip": ["192.0.2.0"], "ml.model.name": ["credit-risk"]},
    first="2026-11-25T03:20:00.000000000Z",
    last="2026-11-25T03:22:30.500000000Z",
    records=("019ab8a1-7c3e-7d20-9a51-0f4c2b9e6d11",),
)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", 90),
        ("15m", 900),
        ("2h", 7200),
        ("1d", 86400),
        ("2026-11-25T03:00:00Z", 1800),
        ("2026-11-25T04:00:00+01:00", 1800),
    ],
)
def test_since_is_a_length_or_a_time(text: str, length: int) -> None:
    """A length counts back from now; a time with a zone stands for itself."""
    assert beginning(text, NOW) == NOW - timedelta(seconds=length)


@pytest.mark.parametrize(
    "text", ["", "15", "m", "-5m", "0m", "2026-11-25T03:00:00", "2027-01-01T00:00:00Z", "yesterday"]
)
def test_a_since_that_is_neither_or_not_past_is_refused(text: str) -> None:
    """Lengths without a unit, times without a zone and times to come are refused with an example."""
    with pytest.raises(SourceError, match="expected --since as a length such as 15m"):
        beginning(text, NOW)


def shown(alerts: list[Alert]) -> str:
    """What is printed for people."""
    out = StringIO()
    detect.show(alerts, NOW - timedelta(minutes=15), NOW, Console(file=out, width=100))
    return out.getvalue()


def test_an_alert_is_shown_with_who_what_and_when() -> None:
    """The text names level, rule, count, times and entities, each entity once."""
    text = shown([ALERT])
    for part in (
        "high",
        ALERT.title,
        ALERT.rule,
        "204 records",
        "2026-11-25 03:20:00",
        "192.0.2.0",
        "1 alert in",
    ):
        assert part in text
    assert text.count("mallory") == 1


def test_no_alert_is_said_plainly() -> None:
    """An empty run says so and names the span that was looked at."""
    assert "no alert in what arrived from 2026-11-25 03:15:00 to 2026-11-25 03:30:00 UTC" in shown([])


def test_names_from_records_cannot_command_the_terminal() -> None:
    """Escape sequences and markup in a stranger's name are shown, not obeyed."""
    alert = Alert(
        "i", "r", "t", "low", 1, {"audit.actor.id": "\x1b[2Jeve[bold]"}, {}, ALERT.first, ALERT.last
    )
    text = shown([alert])
    assert "\x1b" not in text
    assert "\\x1b[2Jeve[bold]" in text


def main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command line; returns its exit code."""
    monkeypatch.setattr("sys.argv", ["mlaudit", "detect", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def test_not_being_able_to_look_gives_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unreachable cluster is exit code 2 with a reason, never 0."""
    assert main(monkeypatch, "--once", "--elasticsearch", "http://127.0.0.1:1") == 2
    assert "cannot reach Elasticsearch" in capsys.readouterr().err


def test_detect_without_once_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command does not loop by itself and says what to do instead."""
    assert main(monkeypatch, "--elasticsearch", "http://127.0.0.1:1") == 2
    assert "let a timer repeat it" in capsys.readouterr().err
