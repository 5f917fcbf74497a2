from __future__ import annotations

from pathlib import Path

import pytest
from tests.sealed import make_stream, write_archive, write_spool

from mlaudit.errors import SourceError
from mlaudit.verify.sources.archive_source import ArchiveSource
from mlaudit.verify.sources.open_source import open_source
from mlaudit.verify.sources.source import Selection, attribute_claims, parse_moment
from mlaudit.verify.sources.spool_source import SpoolSource


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-25", "2026-11-25T00:00:00.000000000Z"),
        ("2026-11-25T03:30:00Z", "2026-11-25T03:30:00.000000000Z"),
        ("2026-11-25T03:30:00.5+02:00", "2026-11-25T01:30:00.500000000Z"),
        ("2026-11-25T03:30", "2026-11-25T03:30:00.000000000Z"),
    ],
)
def test_moments_become_comparable_text(text: str, moment: str) -> None:
    """Dates and times, with or without an offset, compare with records' times as text."""
    assert parse_moment(text) == moment


def test_what_is_no_moment_is_refused() -> None:
    """The error for an invalid time shows a valid one."""
    with pytest.raises(SourceError, match="2026-11-25T03:30:00Z, found 'yesterday'"):
        parse_moment("yesterday")


def test_paths_name_their_source(tmp_path: Path) -> None:
    """Spools, single streams, files and folders of files are distinguished by their content."""
    documents = make_stream(3)
    (tmp_path / "archive").mkdir()
    archive = write_archive(tmp_path / "archive" / "a.jsonl", documents)
    folder = write_spool(tmp_path / "spool", documents)

    assert isinstance(open_source(archive), ArchiveSource)
    assert isinstance(open_source(archive.parent), ArchiveSource)
    assert isinstance(open_source(folder), SpoolSource)
    assert isinstance(open_source(folder.parent), SpoolSource)


def test_absent_and_empty_paths_are_errors(tmp_path: Path) -> None:
    """An absent path and an empty one are both errors."""
    with pytest.raises(SourceError, match="found nothing"):
        open_source(tmp_path / "absent")
    with pytest.raises(SourceError, match="an empty source proves nothing"):
        open_source(tmp_path)


def test_window_takes_its_beginning_and_not_its_end() -> None:
    """Two adjacent windows contain every record once."""
    window = Selection("2026-01-01T00:00:00.000000000Z", "2026-01-02T00:00:00.000000000Z")

    assert window.takes_time("2026-01-01T00:00:00.000000000Z")
    assert not window.takes_time("2026-01-02T00:00:00.000000000Z")
    assert not window.takes_time("")


def test_claims_of_odd_attributes() -> None:
    """Attributes of another type than mlaudit writes are ignored as claims."""
    assert attribute_claims({}) == ("", "", "", 0)
    assert attribute_claims({"audit.sequence.number": "7", "audit.record.id": 5}) == ("5", "", "", 0)
    assert attribute_claims({"audit.sequence.number": -7}) == ("", "", "", 0)
