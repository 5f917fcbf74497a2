"""The record and the finding in the README match the current output of its service and of ``mlaudit verify``."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.integration.served import environment, of, records, request, started

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Values that differ in every run, and their patterns.
VARYING = {
    "@timestamp": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z",
    "client.address": r"hmac:[0-9a-f]{8}:[0-9a-f]{32}",
    "audit.sequence.stream_id": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "audit.sequence.previous_hash": r"[0-9a-f]{64}",
}
_RUNS_OWN = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{64}")


def block(language: str) -> str:
    """The README's only block of this language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    return str(found)


@dataclass
class Shown:
    """The results of the README's service."""

    state: Path
    record: dict[str, Any]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """The README's service, audited, after the README's request."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "app.py").write_text(block("python"), encoding="utf-8")
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", "0"]
    env = environment(folder / "state", MLAUDIT_SERVICE_NAME="my-service")
    with started(command, folder, env) as service:
        port = int(service.wait_for(r"running on http://127\.0\.0\.1:(\d+)")[1])
        assert request(port, "POST", "/predict", b"[1, 2, 3]", User_Agent="curl/8.0") == (200, b"6.0")
        service.stop()
    (record,) = of("audit.ml.prediction", records(folder / "state"))
    return Shown(folder / "state", record)


def test_the_record_is_real(shown: Shown) -> None:
    """Every field of the README's record is in the service's record, with its value; both field counts are right."""
    printed = json.loads(block("json"))
    of_whole = re.search(r"cut to (\d+) of its (\d+) fields", " ".join(README.split()))
    assert of_whole is not None
    assert [len(printed), len(shown.record)] == [int(number) for number in of_whole.groups()]
    assert set(printed) <= set(shown.record)
    for name, value in printed.items():
        if name in VARYING:
            assert re.fullmatch(VARYING[name], value), name
            assert re.fullmatch(VARYING[name], shown.record[name]), name
        else:
            assert shown.record[name] == value, name


def test_the_record_fits_a_glance() -> None:
    """The README's record stays within twenty lines and the page's width."""
    lines = block("json").splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 120


def test_the_finding_is_real(shown: Shown) -> None:
    """The README's tampering gives the README's finding, identical except for the run's ids and hashes."""
    for segment in (shown.state / "spool").glob("*/*.seg"):
        segment.write_bytes(segment.read_bytes().replace(b"PREDICT", b"APPROVE"))
    done = subprocess.run(
        [sys.executable, "-m", "mlaudit.cli", "verify", str(shown.state / "spool")],
        env={**environment(shown.state), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert _RUNS_OWN.sub("…", done.stdout).startswith(_RUNS_OWN.sub("…", block("text")))
    assert shown.record["audit.record.id"] in done.stdout
    assert len(re.findall(r"^[a-z]+\.[a-z_]+ stream ", done.stdout, re.MULTILINE)) == 1


def test_record_and_finding_are_of_one_run() -> None:
    """The finding names the stream and the place of the record above it."""
    printed = json.loads(block("json"))
    assert (
        f"stream {printed['audit.sequence.stream_id']} record {printed['audit.sequence.number']}:"
        in block("text")
    )
