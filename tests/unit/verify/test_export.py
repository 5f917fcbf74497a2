from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.sealed import SIGNER, STRANGER, STREAM_ID, make_stream, write_archive, write_spool
from typer.testing import CliRunner, Result

from mlaudit.cli import app
from mlaudit.deliver.spool import layout
from mlaudit.seal.checkpoint import Checkpoint, SignedNote, sign_note

OTHER = "019ab8a0-0000-7000-8000-00000000000a"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with the verifier key of the test streams."""
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "test.pub").write_text(SIGNER.public_key.encode() + "\n")
    return folder


def run(keys: Path, *arguments: object, env: dict[str, str] | None = None) -> Result:
    """Runs the command line."""
    return CliRunner().invoke(app, [*map(str, arguments), "--keys", str(keys)], env=env)


def test_newest_of_each_stream(tmp_path: Path, keys: Path) -> None:
    """From several sources the furthest valid signature of every stream is exported once."""
    write_archive(tmp_path / "old.jsonl", make_stream(9, end="open"))
    write_archive(tmp_path / "new.jsonl", [*make_stream(20), *make_stream(12, stream_id=OTHER)])

    result = run(
        keys, "checkpoint", "export", tmp_path / "old.jsonl", tmp_path / "new.jsonl", "--to", tmp_path / "out"
    )
    again = run(keys, "checkpoint", "export", tmp_path / "new.jsonl", "--to", tmp_path / "out")

    assert (result.exit_code, result.stderr.strip()) == (0, "2 written")
    assert (again.exit_code, again.stderr.strip()) == (0, "2 already there")
    sequences = {
        path.stem: SignedNote.parse(path.read_text()).checkpoint.sequence
        for path in (tmp_path / "out").iterdir()
    }
    assert sequences == {STREAM_ID: 19, OTHER: 11}


def test_spool_of_this_host_is_the_default(tmp_path: Path, keys: Path) -> None:
    """Without a source, the spool and its retained records are read."""
    spool = tmp_path / "spool"
    write_spool(spool, make_stream(20))
    write_spool(layout.retained_folder(spool), make_stream(12, stream_id=OTHER))
    env = {"MLAUDIT_SPOOL_DIR": str(spool)}

    result = run(keys, "checkpoint", "export", "--to", "-", env=env)

    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("mlaudit/checkpoint/v1") == 2
    assert f"{OTHER}\n11\n" in result.stdout


def test_only_what_a_trusted_key_signed(tmp_path: Path, keys: Path) -> None:
    """Checkpoints by other keys are skipped, and if there is no other, that is an error."""
    archive = write_archive(tmp_path / "audit.jsonl", make_stream(20, signer=STRANGER))

    result = run(keys, "checkpoint", "export", archive, "--to", tmp_path / "out")

    assert result.exit_code != 0
    assert "none that a trusted key signed (4 by other keys)" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_source_that_lost_its_end_is_told(tmp_path: Path, keys: Path) -> None:
    """A source that ends before the export does not replace it, and the exit code is 1."""
    whole = write_archive(tmp_path / "whole.jsonl", make_stream(20))
    short = write_archive(tmp_path / "short.jsonl", make_stream(20)[:12])
    run(keys, "checkpoint", "export", whole, "--to", tmp_path / "out")

    result = run(keys, "checkpoint", "export", short, "--to", tmp_path / "out")

    assert (result.exit_code, "its newest records were removed" in result.stderr) == (1, True)
    assert (
        SignedNote.parse((tmp_path / "out" / f"{STREAM_ID}.checkpoint").read_text()).checkpoint.sequence == 19
    )


def test_second_history_is_told(tmp_path: Path, keys: Path) -> None:
    """Two valid signatures over one record with different hashes are an error and change nothing."""
    archive = write_archive(tmp_path / "audit.jsonl", make_stream(20))
    out = tmp_path / "out"
    out.mkdir()
    other = sign_note(Checkpoint(STREAM_ID, 19, "b" * 64, "2026-11-25T03:30:00Z"), SIGNER)
    (out / f"{STREAM_ID}.checkpoint").write_text(other)

    result = run(keys, "checkpoint", "export", archive, "--to", out)

    assert (result.exit_code, "TWO HISTORIES" in result.stderr) == (1, True)
    assert (out / f"{STREAM_ID}.checkpoint").read_text() == other


def test_exported_folder_shows_what_is_gone(tmp_path: Path, keys: Path) -> None:
    """Verification with a folder or a file of checkpoints finds a cut tail and a removed stream."""
    whole = write_archive(tmp_path / "whole.jsonl", [*make_stream(20), *make_stream(12, stream_id=OTHER)])
    cut = write_archive(tmp_path / "cut.jsonl", make_stream(20, end="open")[:10])
    run(keys, "checkpoint", "export", whole, "--to", tmp_path / "out")
    run(keys, "checkpoint", "export", whole, "--append", tmp_path / "all.txt")

    for known in (tmp_path / "out", tmp_path / "all.txt"):
        holds = run(keys, "verify", whole, "--checkpoint", known, "--json")
        broken = run(keys, "verify", cut, "--checkpoint", known, "--json")

        assert json.loads(holds.stdout)["ok"]
        codes = json.loads(broken.stdout)["counts"]
        assert (codes["stream.tail_missing"], codes["stream.missing"]) == (1, 1)


def test_contradicting_checkpoints_are_a_finding(tmp_path: Path, keys: Path) -> None:
    """Two contradicting exported checkpoints are a finding."""
    archive = write_archive(tmp_path / "audit.jsonl", make_stream(20))
    run(keys, "checkpoint", "export", archive, "--to", tmp_path / "out")
    other = tmp_path / "other.checkpoint"
    other.write_text(sign_note(Checkpoint(STREAM_ID, 19, "b" * 64, "2026-11-25T03:30:00Z"), SIGNER))

    result = run(keys, "verify", archive, "--checkpoint", tmp_path / "out", "--checkpoint", other, "--json")

    report = json.loads(result.stdout)
    assert (result.exit_code, report["ok"]) == (1, False)
    assert any("two histories" in found["text"] for found in report["findings"])


def test_one_target_is_needed(tmp_path: Path, keys: Path) -> None:
    """No target, two targets, and a stamp for standard output are errors before anything is read."""
    archive = write_archive(tmp_path / "audit.jsonl", make_stream(20))
    for targets in (
        [],
        ["--to", "-", "--append", tmp_path / "x"],
        ["--to", "-", "--tsa", "http://127.0.0.1:9/"],
    ):
        result = run(keys, "checkpoint", "export", archive, *targets)
        assert result.exit_code != 0
        assert "expected" in str(result.exception)
