from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from tests.sealed import (
    KEYS,
    NEXT_ID,
    archive_line,
    copy_of,
    make_stream,
    named,
    write_archive,
)

from mlaudit.errors import SourceError
from mlaudit.verify.report import Report
from mlaudit.verify.sources.archive_source import ArchiveSource
from mlaudit.verify.sources.open_source import open_source
from mlaudit.verify.verification import verify_source

VALID = make_stream()


def verify(path: Path) -> Report:
    """Verifies an archive."""
    return verify_source(open_source(path), KEYS)


def test_archive_is_proven(tmp_path: Path) -> None:
    """Every record of every line is read and proven."""
    report = verify(write_archive(tmp_path / "audit.jsonl", VALID))

    assert report.ok
    assert report.records == 20


def test_compressed_and_rotated_archive_is_proven(tmp_path: Path) -> None:
    """A folder of rotated files, some of them compressed, is one source."""
    write_archive(tmp_path / "audit-1.jsonl", VALID[:8])
    with gzip.open(tmp_path / "audit-2.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(archive_line(VALID[8:]))

    report = verify(tmp_path)

    assert report.ok
    assert report.records == 20


def test_lines_may_come_in_any_order(tmp_path: Path) -> None:
    """Interleaved streams and a late batch are no finding."""
    other = make_stream(stream_id=NEXT_ID)
    path = tmp_path / "audit.jsonl"
    path.write_text("".join(archive_line(part) for part in (other[10:], VALID[8:], other[:10], VALID[:8])))

    report = verify(path)

    assert report.ok
    assert len(report.streams) == 2


def test_ordinary_logs_are_passed_over(tmp_path: Path) -> None:
    """Logs of the service that share the file are not records."""
    path = write_archive(tmp_path / "audit.jsonl", VALID)
    line = {"body": {"stringValue": "127.0.0.1 - GET /predict"}, "attributes": [], "severityNumber": 9}
    scopes = [{"scope": {"name": name}, "logRecords": [line]} for name in ("uvicorn", "mlaudit")]
    ordinary = json.dumps({"resourceLogs": [{"resource": {}, "scopeLogs": scopes}]}) + "\n"
    path.write_text(ordinary + path.read_text(encoding="utf-8") + ordinary, encoding="utf-8")

    assert verify(path).records == 20


def test_altered_attribute_is_named(tmp_path: Path) -> None:
    """Other backends search by attributes, so they must equal the original's values."""
    documents = copy_of(VALID)
    documents[6].source["audit.actor.id"] = "somebody else"

    report = verify(write_archive(tmp_path / "audit.jsonl", documents))

    assert named(report.findings) == [("projection.changed", 7, 7)]
    assert report.findings[0].where.endswith("audit.jsonl:2")


def test_torn_last_line_is_information(tmp_path: Path) -> None:
    """A line that a crash cut off, or that is being written, is for information only."""
    path = write_archive(tmp_path / "audit.jsonl", VALID)
    path.write_text(path.read_text(encoding="utf-8") + '{"resourceLogs":[{"sc', encoding="utf-8")

    report = verify(path)

    assert report.ok
    assert [found.code for found in report.findings] == ["source.torn"]


@pytest.mark.parametrize(
    "line", ["not json\n", "[]\n", '{"resourceLogs":[5]}\n', '{"resourceLogs":{"a":1}}\n']
)
def test_damaged_line_is_a_finding(tmp_path: Path, line: str) -> None:
    """A line in the middle that is not OTLP JSON is reported, and the rest is still read."""
    path = write_archive(tmp_path / "audit.jsonl", VALID)
    path.write_text(line + path.read_text(encoding="utf-8"), encoding="utf-8")

    report = verify(path)

    assert [(found.code, found.where) for found in report.findings] == [("source.damaged", f"{path}:1")]
    assert report.records == 20


def test_truncated_compressed_file_is_a_finding(tmp_path: Path) -> None:
    """A truncated .gz is reported, and its content is still verified."""
    path = tmp_path / "audit.jsonl.gz"
    whole = gzip.compress("".join(archive_line([stored]) for stored in VALID).encode())
    path.write_bytes(whole[:-20])

    report = verify(path)

    assert "source.damaged" in [found.code for found in report.findings]
    assert not report.ok


def test_body_that_is_no_text_is_named(tmp_path: Path) -> None:
    """A record whose body was replaced by a structure is named at its place."""
    line = archive_line(VALID)
    start = line.index('"body": {"stringValue"')
    path = tmp_path / "audit.jsonl"
    path.write_text(
        line[:start] + line[start:].replace('"stringValue"', '"kvlistValue"', 1), encoding="utf-8"
    )

    assert named(verify(path).findings) == [("original.changed", 1, 1)]


def test_unreadable_file_cannot_be_looked_at(tmp_path: Path) -> None:
    """A missing file is an error, not a finding."""
    source = ArchiveSource([tmp_path / "gone.jsonl"], tmp_path)

    with pytest.raises(SourceError, match="expected a readable file"):
        verify_source(source, KEYS)
