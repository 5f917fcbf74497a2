from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.sealed import SIGNER, make_stream, write_archive
from tests.timestamping import Authority, authority
from typer.testing import CliRunner, Result

from mlaudit.cli import app
from mlaudit.errors import SourceError, TimestampError
from mlaudit.verify.timestamps import check_timestamp, fetch_timestamp, load_authorities


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    """A running authority."""
    with authority(tmp_path_factory.mktemp("tsa")) as running:
        yield running


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    """Another, untrusted authority."""
    with authority(tmp_path_factory.mktemp("stranger")) as running:
        yield running


@pytest.fixture
def exported(tmp_path: Path, tsa: Authority) -> Path:
    """A folder with an exported and time-stamped checkpoint, next to keys and archive."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "test.pub").write_text(SIGNER.public_key.encode() + "\n")
    write_archive(tmp_path / "audit.jsonl", make_stream())
    result = run(tmp_path, "checkpoint", "export", tmp_path / "audit.jsonl", "--to", tmp_path / "out",
                 "--tsa", tsa.url, "--tsa-ca", tsa.ca)  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return tmp_path / "out"


def run(folder: Path, *arguments: object) -> Result:
    """Runs the command line with the keys of the folder."""
    return CliRunner().invoke(app, [*map(str, arguments), "--keys", str(folder / "keys")])


def verify(exported: Path, *arguments: object) -> dict[str, object]:
    """The report about the archive with the exported checkpoints."""
    root = exported.parent
    result = run(root, "verify", root / "audit.jsonl", "--checkpoint", exported, "--json", *arguments)
    report: dict[str, object] = json.loads(result.stdout)
    return report


def test_time_is_proven(exported: Path, tsa: Authority) -> None:
    """A time-stamped checkpoint proves by when it existed."""
    report = verify(exported, "--tsa-ca", tsa.ca)

    (proven,) = report["times"]  # type: ignore[misc]
    assert report["ok"]
    assert proven["sequence"] == 19
    stamped = datetime.fromisoformat(proven["time"])
    assert timedelta(0) <= datetime.now(UTC) - stamped < timedelta(minutes=2)


def test_stamp_is_not_checked_without_an_authority(exported: Path) -> None:
    """Without --tsa-ca the stamp proves nothing, and the report says that it was not checked."""
    report = verify(exported)

    assert (report["ok"], report["times"]) == (True, [])
    assert any("--tsa-ca" in sentence for sentence in report["not_checked"])  # type: ignore[attr-defined]


def test_stamp_of_a_stranger_is_a_finding(exported: Path, stranger: Authority) -> None:
    """The stamp of an untrusted authority is a finding."""
    report = verify(exported, "--tsa-ca", stranger.ca)

    assert (report["ok"], report["counts"], report["times"]) == (False, {"timestamp.invalid": 1}, [])


def test_stamp_of_another_checkpoint_is_a_finding(exported: Path, tsa: Authority) -> None:
    """A stamp that was moved to another checkpoint is found by its hash."""
    (stamp,) = exported.glob("*.tsr")
    stamp.write_bytes(fetch_timestamp(tsa.url, b"something else"))

    report = verify(exported, "--tsa-ca", tsa.ca)

    assert report["counts"] == {"timestamp.invalid": 1}


def test_damaged_stamp_is_a_finding(exported: Path, tsa: Authority) -> None:
    """A byte of the authority's signature that was changed is found."""
    (stamp,) = exported.glob("*.tsr")
    data = bytearray(stamp.read_bytes())
    data[-20] ^= 1
    stamp.write_bytes(data)

    assert verify(exported, "--tsa-ca", tsa.ca)["counts"] == {"timestamp.invalid": 1}


def test_stamp_is_asked_for_once(exported: Path, tsa: Authority) -> None:
    """Exporting the same checkpoint again keeps its stamp, because the older one is better."""
    root = exported.parent
    (stamp,) = exported.glob("*.tsr")
    before, asked = stamp.read_bytes(), len(tsa.requests)

    run(root, "checkpoint", "export", root / "audit.jsonl", "--to", exported, "--tsa", tsa.url)

    assert (stamp.read_bytes(), len(tsa.requests)) == (before, asked)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ((503, "text/plain", b"away"), "found 503"),
        ((200, "text/html", b"<html>"), "text/html"),
        ((200, "application/timestamp-reply", b"garbage"), "expected a time-stamp"),
    ],
)
def test_authority_that_answers_badly_is_an_error(
    tsa: Authority, answer: tuple[int, str, bytes], text: str
) -> None:
    """An invalid stamp is an error and is not stored."""
    tsa.answer = answer
    try:
        with pytest.raises(TimestampError, match=text):
            fetch_timestamp(tsa.url, b"message")
    finally:
        tsa.answer = None


def test_replayed_answer_is_refused(tsa: Authority) -> None:
    """A response to an earlier request about the same message has another nonce and is rejected."""
    fetch_timestamp(tsa.url, b"message")
    tsa.answer = (200, "application/timestamp-reply", tsa.reply(tsa.requests[-1]))
    try:
        with pytest.raises(TimestampError, match="nonce"):
            fetch_timestamp(tsa.url, b"message")
    finally:
        tsa.answer = None


def test_refusal_of_the_authority_is_an_error(tsa: Authority) -> None:
    """A status other than granted carries no stamp."""
    tsa.answer = (200, "application/timestamp-reply", tsa.reply(b"no query"))
    try:
        with pytest.raises(TimestampError, match="refused"):
            fetch_timestamp(tsa.url, b"message")
    finally:
        tsa.answer = None


def test_stamp_is_checked_by_certificates(tsa: Authority, tmp_path: Path) -> None:
    """The same stamp holds for its message only, and a file without certificates is an error."""
    stamp = fetch_timestamp(tsa.url, b"message", load_authorities(tsa.ca))

    assert check_timestamp(stamp, b"message", load_authorities(tsa.ca)).endswith("Z")
    with pytest.raises(TimestampError, match="SHA-256"):
        check_timestamp(stamp, b"massage", load_authorities(tsa.ca))
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(SourceError, match="certificates"):
        load_authorities(tmp_path / "empty.pem")
