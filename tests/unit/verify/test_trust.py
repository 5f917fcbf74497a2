from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.sealed import KEYS, NEXT_ID, NOW, SIGNER, STREAM_ID, Document, make_stream, records, write_archive
from typer.testing import CliRunner, Result

from mlaudit.cli import app
from mlaudit.seal import keys as key_files
from mlaudit.seal.checkpoint import Checkpoint
from mlaudit.verify.proof.stored import StoredRecord
from mlaudit.verify.sources.source import Remarks, Selection
from mlaudit.verify.verification import verify_source


@dataclass
class Arriving:
    """A live store in which the rest of a stream arrives after a number of reads."""

    documents: list[Document]
    first: int
    looks: int
    name: str = "live"
    complete: bool = True
    live: bool = True
    asked: list[Selection] = field(default_factory=list)

    def read(self, selection: Selection, remarks: Remarks) -> Iterator[StoredRecord]:
        """The content at this time."""
        self.asked.append(selection)
        there = self.documents if len(self.asked) > self.looks else self.documents[: self.first]
        return (record for record in records(there) if selection.takes_stream(record.stream_id))


def run(*arguments: object, env: dict[str, str] | None = None) -> Result:
    """Runs the command line."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=env)


@pytest.fixture
def rotated(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A host whose key was rotated an hour ago, an archive that the new key signed, and an auditor's keys."""
    folder = tmp_path / "host"
    path = folder / "signing.key"
    old = key_files.create_signing_key(path, "host-1")
    key_files.rotate_signing_key(path, "host-1", datetime.now(UTC), timedelta(hours=1))
    archive = write_archive(tmp_path / "audit.jsonl", make_stream(signer=key_files.load_signing_key(path)))
    auditor = tmp_path / "auditor"
    auditor.mkdir()
    (auditor / "host-1.pub").write_text(old.public_key.encode() + "\n")
    (folder / "rotations").rename(auditor / "rotations")
    return folder, archive, auditor


def test_new_key_is_trusted_when_somebody_says_so(rotated: tuple[Path, Path, Path]) -> None:
    """A rotation alone makes no key trusted; with --follow-rotations the statement of a trusted key does."""
    _, archive, auditor = rotated

    plain = run("verify", archive, "--keys", auditor, "--json")
    followed = run("verify", archive, "--keys", auditor, "--json", "--follow-rotations")

    assert set(json.loads(plain.stdout)["counts"]) == {"checkpoint.unknown_key"}
    assert (followed.exit_code, json.loads(followed.stdout)["counts"]) == (0, {})


def test_host_trusts_its_own_keys(rotated: tuple[Path, Path, Path]) -> None:
    """On the host both verifier keys lie in the folder, and the settings select the folder or the key."""
    folder, archive, _ = rotated

    assert run("verify", archive, "--keys", folder).exit_code == 0
    assert (
        run("verify", archive, env={"MLAUDIT_SIGNING_KEY_FILE": str(folder / "signing.key")}).exit_code == 0
    )


def test_rotate_on_the_command_line(tmp_path: Path) -> None:
    """Rotating prints the new verifier key, and show lists both, the old one with its end time."""
    run("keys", "init", "--dir", tmp_path, "--name", "host-1")

    done = run("keys", "rotate", "--dir", tmp_path, "--overlap", "2")
    shown = run("keys", "show", "--dir", tmp_path).stdout.splitlines()

    new = key_files.load_signing_key(tmp_path / "signing.key").public_key
    assert (done.exit_code, new.name) == (0, "host-1")
    assert new.encode() in done.stdout
    assert len(shown) == 2
    assert sum("# retired, signs nothing after" in line for line in shown) == 1


def test_checkpoint_ahead_of_delivery_is_waited_for() -> None:
    """A checkpoint that was exported just now may be ahead of its records: they are waited for, then missed."""
    documents = make_stream()
    fresh = Checkpoint(STREAM_ID, 20, documents[-1].hash, NOW.strftime("%Y-%m-%dT%H:%M:%SZ"))

    arriving = Arriving(documents, 12, looks=2)
    report = verify_source(arriving, KEYS, checkpoints=[fresh], settle=5, now=NOW)
    lost = verify_source(Arriving(documents, 12, looks=99), KEYS, checkpoints=[fresh], settle=0.6, now=NOW)

    assert (report.findings, len(arriving.asked)) == ([], 3)
    assert [finding.code for finding in lost.findings] == ["stream.tail_missing"]


def test_other_streams_checkpoints_do_not_widen_the_look() -> None:
    """With one stream selected, a fresh checkpoint of another stream does not extend the check to that one."""
    fresh = Checkpoint(NEXT_ID, 20, "a" * 64, NOW.strftime("%Y-%m-%dT%H:%M:%SZ"))
    source = Arriving([*make_stream(), *make_stream(stream_id=NEXT_ID)], 40, looks=0)

    report = verify_source(source, KEYS, checkpoints=[fresh], stream=STREAM_ID, settle=5, now=NOW)

    assert ([summary.stream_id for summary in report.streams], len(source.asked)) == ([STREAM_ID], 1)
    assert report.keys == [SIGNER.public_key.encode()]
