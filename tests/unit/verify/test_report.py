from __future__ import annotations

import io
import json

from rich.console import Console

from mlaudit.cli.verify_report import print_report
from mlaudit.safety.printable import safe
from mlaudit.verify.proof.finding_codes import Finding
from mlaudit.verify.proof.summary import StreamSummary
from mlaudit.verify.report import Report

SUMMARY = StreamSummary("s-1", records=5, first=1, last=5, last_signed=3, unsigned=2, service="scoring")
EVIL = "x\x1b]0;owned\x07\x1b[31m\u202e\r\n[bold]"


def text_of(report: Report) -> str:
    """The report as a terminal would get it."""
    out = io.StringIO()
    print_report(
        report, Console(file=out, force_terminal=True, width=200, color_system=None, highlight=False)
    )
    return out.getvalue()


def test_report_that_holds_says_so() -> None:
    """The verdict states the numbers of records, streams and signatures."""
    text = text_of(Report("archive", 5, [SUMMARY], seconds=1.0))

    assert "HOLDS 5 records in 1 streams of archive: every hash, every link, all signatures good" in text
    assert "2 records of 1 open streams wait for their next signature" in text


def test_report_with_findings_does_not_hold() -> None:
    """Each finding is shown with its place and both values."""
    found = Finding("chain.gap", "records 2 to 3 are missing", "s-1", 2, 3)
    text = text_of(Report("archive", 5, [SUMMARY], [found]))

    assert "DOES NOT HOLD 1 findings" in text
    assert "chain.gap stream s-1 record 2 to 3: records 2 to 3 are missing" in text


def test_information_does_not_break_the_proof() -> None:
    """A harmless replay is reported and the report holds."""
    report = Report("archive", 5, [SUMMARY], [Finding("replay.identical", "again", "s-1", 2, 2)])

    assert report.ok
    assert "replay.identical" in text_of(report)


def test_suppressed_findings_break_the_proof() -> None:
    """Suppressed findings count for the verdict."""
    assert not Report("archive", 5, [SUMMARY], suppressed=1).ok


def test_unsigned_report_says_it_loudly() -> None:
    """A verification without signatures is clearly marked in the report."""
    report = Report("archive", 5, [SUMMARY], signatures=False)

    assert "SIGNATURES WERE NOT CHECKED" in text_of(report)
    assert report.to_json()["signatures"] == "not checked"


def test_records_cannot_command_the_terminal() -> None:
    """Escape sequences, carriage returns, direction marks and markup of a record are printed as visible text."""
    found = Finding("chain.gap", EVIL, EVIL, 2, 3, EVIL, EVIL, EVIL, (EVIL,), EVIL)
    summary = StreamSummary(EVIL, records=5, service=EVIL)

    text = text_of(Report(EVIL, 5, [summary], [found], not_checked=[EVIL]))

    assert not any(character in text for character in "\x1b\x07\u202e\r")
    assert "\\x1b]0;owned\\x07" in text
    assert "[bold]" in text


def test_json_is_complete() -> None:
    """The JSON form carries every finding with its severity, and the counts."""
    found = Finding("projection.changed", "x", "s-1", 2, 2, "r-2", "a", "b", ("message",), "idx/r-2")
    report = json.loads(json.dumps(Report("archive", 5, [SUMMARY], [found, found]).to_json()))

    assert report["ok"] is False
    assert report["counts"] == {"projection.changed": 2}
    assert report["findings"][0] == {
        "code": "projection.changed",
        "severity": "finding",
        "stream_id": "s-1",
        "sequence": 2,
        "through": 2,
        "record_id": "r-2",
        "expected": "a",
        "found": "b",
        "fields": ["message"],
        "where": "idx/r-2",
        "text": "x",
    }
    assert report["streams"][0]["unsigned"] == 2


def test_many_findings_are_cut_in_the_text() -> None:
    """The text shows a limited number of findings and the total."""
    many = [Finding("chain.gap", "missing", "s-1", n, n) for n in range(200)]

    assert "and 150 more" in text_of(Report("archive", 5, [SUMMARY], many))


def test_safe_keeps_ordinary_text() -> None:
    """Letters of any script are unchanged."""
    assert safe("naïve 記録 “ok”") == "naïve 記録 “ok”"
