"""Injection through names: in log lines, on the terminal, in records."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from rich.console import Console
from tests.sealed import KEYS, NOW, altered, document, make_stream, write_archive

import mlaudit
from mlaudit.cli.verify_report import print_report
from mlaudit.deliver.send.answer import read_answer
from mlaudit.event import AuditEvent
from mlaudit.policy.load import inspect_policy
from mlaudit.safety.printable import SafeMessages, guard_log, safe, safe_lines
from mlaudit.testing import capture
from mlaudit.verify.sources.open_source import open_source
from mlaudit.verify.verification import verify_source

FORGED = "fraud\r\n2026-11-25 ERROR mlaudit: audit stream verified, HOLDS"
CLEARS = "\x1b[2J\x1b[31mowned\x1b]0;title\x07"
LINK = "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\"
BIDI = "invoice\u202egnp.exe\u2066"
UNSEEN = "ad\u200bmin\u200d\ufeff\u00ad"
C1 = "\x9b31m\x85line\u2028two\u2029three\x00"
HOSTILE = (FORGED, CLEARS, LINK, BIDI, UNSEEN, C1)


def is_plain(text: str) -> bool:
    """Whether nothing in the text is obeyed by a terminal or ends a line, but for line feeds."""
    return all(char == "\n" or unicodedata.category(char)[0] not in "CZ" or char == " " for char in text)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_terminal_would_obey_is_written_out(text: str) -> None:
    """The characters stay visible as escapes, in one line, and nothing else of the text changes."""
    shown = safe(text)
    assert is_plain(shown)
    assert "\n" not in shown
    assert "\\" in shown
    assert safe("plain, naïve 文字 😀") == "plain, naïve 文字 😀"
    assert safe_lines("a\nb\x1b") == "a\nb\\x1b"


@pytest.mark.parametrize("text", HOSTILE)
def test_a_log_line_of_mlaudit_stays_one_plain_line(text: str, caplog: pytest.LogCaptureFixture) -> None:
    """Names of kinds and fields reach the log only written out, so no line can be forged."""
    with caplog.at_level(logging.DEBUG, "mlaudit"), capture(instrument=False) as log:
        log.pipeline.emit(AuditEvent(f"audit.app.{text}", fields={text: None}))
        mlaudit.record(f"audit.made.{text}", fields={text: object()})
        log.pipeline.fault("hook", ValueError(text), kind=f"audit.x.{text}")
    assert caplog.messages
    for message in caplog.messages:
        assert is_plain(message)
        assert "\n" not in message


def test_a_message_that_cannot_be_made_does_not_raise() -> None:
    """Arguments that do not fit a log message leave the message itself."""
    record = logging.LogRecord("mlaudit", logging.INFO, "", 0, "%d records", ("many",), None)
    assert SafeMessages().filter(record)
    assert record.getMessage() == "%d records"
    guard_log()
    guard_log()
    assert sum(isinstance(one, SafeMessages) for one in logging.getLogger("mlaudit").filters) == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_the_report_of_verify_commands_no_terminal(text: str, tmp_path: Path) -> None:
    """Service names, kinds and ids of tampered records are printed as text, not executed; JSON is pure ASCII."""
    stream = make_stream(8)
    for number, name in ((0, "service.name"), (0, "host.name"), (2, "audit.record.id"), (3, "audit.kind")):
        stream[number] = document(altered(stream[number].original, name, text))
    stream[5] = document(altered(stream[5].original, "audit.sequence.stream_id", text))
    report = verify_source(open_source(write_archive(tmp_path / "a.jsonl", stream)), KEYS, now=NOW, settle=0)
    written = io.StringIO()
    print_report(report, Console(file=written, width=300, no_color=True))
    assert not report.ok
    assert is_plain(written.getvalue().replace("\n", ""))
    assert json.dumps(report.to_json()).isascii()


def test_the_records_themselves_keep_what_was_said() -> None:
    """A record is evidence: it holds the name as it came, escaped by JSON, and is still one line."""
    with capture(instrument=False) as log:
        mlaudit.record("audit.ml.prediction", fields={"ml.model.name": CLEARS + FORGED})
        (record,) = log.of("audit.ml.prediction")
        assert record["ml.model.name"] == CLEARS + FORGED
        assert b"\n" not in log.originals[-1]
        assert b"\x1b" not in log.originals[-1]


def test_faults_of_a_policy_file_command_no_terminal() -> None:
    """Keys and values of a policy file are shown written out."""
    found = inspect_policy('"\\e[2J\\u202e": 1\nversion: "\\e]8;;x\\a"\n"rules\\n": 1\n')
    assert found.faults
    assert all(is_plain(fault) for fault in found.faults)


def test_an_answer_of_the_receiver_commands_no_terminal() -> None:
    """What a collector says reaches the log as it is repeated in a reason, written out."""
    answer = read_answer(200, {"content-type": CLEARS + FORGED}, b"")
    assert is_plain(answer.reason)
    assert "\n" not in answer.reason


@pytest.mark.parametrize("command", ["verify", "spool", "policy"])
def test_error_messages_of_the_command_line_are_plain(command: str, tmp_path: Path) -> None:
    """A path with escape sequences comes back written out, with an exit code that says it failed."""
    path = tmp_path / "x\x1b[2J\u202e\ny"
    arguments = {
        "verify": ["verify", "--unsigned", str(path)],
        "spool": ["spool", "drain"],
        "policy": ["policy", "check", str(path)],
    }[command]
    environment = {
        **os.environ,
        "MLAUDIT_SPOOL_DIR": str(path),
        "MLAUDIT_STATE_DIR": str(tmp_path),
        "COLUMNS": "300",
    }
    done = subprocess.run(
        [sys.executable, "-c", "from mlaudit.cli import main; main()", *arguments],
        capture_output=True,
        env=environment,
        check=False,
        timeout=60,
    )
    shown = (done.stdout + done.stderr).decode()
    assert done.returncode, shown
    assert shown
    assert is_plain(shown)
