from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.sealed import SIGNER, STRANGER, copy_of, make_stream, write_archive
from typer.testing import CliRunner, Result

from mlaudit.cli import app
from mlaudit.seal.checkpoint import Checkpoint, sign_note
from mlaudit.seal.keys import load_verifier_keys

VALID = make_stream()


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with the verifier key of the test streams."""
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "test.pub").write_text(SIGNER.public_key.encode() + "\n")
    return folder


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A valid archive."""
    return write_archive(tmp_path / "audit.jsonl", VALID)


def run(*arguments: object, env: dict[str, str] | None = None) -> Result:
    """Runs the command line."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=env)


def test_exit_code_0_when_all_holds(archive: Path, keys: Path) -> None:
    """The verdict is in the text and in the exit code."""
    result = run("verify", archive, "--keys", keys)

    assert result.exit_code == 0
    assert "HOLDS 20 records" in result.stdout


def test_exit_code_1_for_findings(tmp_path: Path, keys: Path) -> None:
    """A tampered trail fails, in text and in JSON."""
    broken = write_archive(tmp_path / "broken.jsonl", VALID[:6] + VALID[7:])

    text = run("verify", broken, "--keys", keys)
    as_json = run("verify", broken, "--keys", keys, "--json")

    assert text.exit_code == as_json.exit_code == 1
    assert "chain.gap" in text.stdout
    report = json.loads(as_json.stdout)
    assert (report["ok"], report["records"], report["counts"]) == (False, 19, {"chain.gap": 1})


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["/nowhere"], "found nothing"),
        ([], "expected one source"),
        (["--elasticsearch", "nonsense"], "expected an address"),
        (["ARCHIVE", "--elasticsearch", "http://127.0.0.1:1"], "expected one source"),
        (["ARCHIVE", "--since", "yesterday"], "expected a date or time"),
        (["ARCHIVE", "--since", "2100-01-01"], "proves nothing"),
        (["ARCHIVE", "--stream", "unknown"], "expected stream unknown"),
        (["ARCHIVE", "--keys", "/nowhere"], "--unsigned"),
        (["ARCHIVE", "--checkpoint", "/nowhere"], "expected a signed checkpoint"),
    ],
)
def test_exit_code_2_when_it_could_not_look(
    archive: Path, keys: Path, arguments: list[str], reason: str
) -> None:
    """Whatever keeps it from looking is said, and never taken for a result."""
    given = [str(archive) if argument == "ARCHIVE" else argument for argument in arguments]
    with_keys = [] if "--keys" in given else ["--keys", str(keys)]

    text = run("verify", *given, *with_keys)
    as_json = run("verify", *given, *with_keys, "--json")

    assert text.exit_code == as_json.exit_code == 2
    assert reason in text.stderr
    assert reason in json.loads(as_json.stdout)["error"]


def test_keys_of_the_state_folder_are_trusted(archive: Path, keys: Path, tmp_path: Path) -> None:
    """Without --keys the host's own keys are taken, also a configured one."""
    assert run("verify", archive, env={"MLAUDIT_STATE_DIR": str(tmp_path)}).exit_code == 0
    configured = {"MLAUDIT_STATE_DIR": "/nowhere", "MLAUDIT_SIGNING_KEY_FILE": str(keys / "test.key")}
    assert run("verify", archive, env=configured).exit_code == 0
    assert run("verify", archive, env={"MLAUDIT_STATE_DIR": "/nowhere"}).exit_code == 2


def test_unsigned_is_said_loudly(archive: Path) -> None:
    """A verification without signatures is possible and cannot be taken for one with."""
    result = run("verify", archive, "--unsigned")

    assert result.exit_code == 0
    assert "SIGNATURES WERE NOT CHECKED" in result.stdout


def test_checkpoint_from_elsewhere(tmp_path: Path, keys: Path) -> None:
    """An exported checkpoint shows a deleted tail; one by a stranger is refused."""
    shortened = write_archive(tmp_path / "short.jsonl", VALID[:15])
    checkpoint = Checkpoint(
        VALID[0].fields["audit.sequence.stream_id"], 18, VALID[17].hash, "2025-11-25T03:31:00Z"
    )
    good, bad = tmp_path / "good.note", tmp_path / "bad.note"
    good.write_text(sign_note(checkpoint, SIGNER))
    bad.write_text(sign_note(checkpoint, STRANGER))

    found = run("verify", shortened, "--keys", keys, "--checkpoint", good, "--json")
    refused = run("verify", shortened, "--keys", keys, "--checkpoint", bad)

    assert [finding["code"] for finding in json.loads(found.stdout)["findings"]] == ["stream.tail_missing"]
    assert refused.exit_code == 2


def test_records_cannot_command_the_terminal(tmp_path: Path, keys: Path) -> None:
    """Escape sequences in stored values are shown, not obeyed."""
    documents = copy_of(VALID)
    documents[6].source["audit.actor.id"] = "\x1b]0;owned\x07\x1b[2J"
    broken = write_archive(tmp_path / "broken.jsonl", documents)

    result = run("verify", broken, "--keys", keys)

    assert result.exit_code == 1
    assert "\x1b" not in result.stdout
    assert "\\x1b[2J" in result.stdout


def test_keys_init_makes_what_a_service_needs(tmp_path: Path) -> None:
    """Signing key, verifier key and pseudonym key are made once and never overwritten."""
    folder = tmp_path / "keys"

    made = run("keys", "init", "--dir", folder, "--name", "host-1")
    again = run("keys", "init", "--dir", folder)

    assert made.exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["pseudonym.key", "signing.key", "signing.pub"]
    assert [key.name for key in load_verifier_keys(folder).values()] == ["host-1"]
    assert again.exit_code != 0
    assert "not overwritten" in str(again.exception)


def test_keys_init_keeps_the_pseudonym_key(tmp_path: Path) -> None:
    """Pseudonyms stay the same when only the signing key is new."""
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "pseudonym.key").write_bytes(b"x" * 32)

    result = run("keys", "init", env={"MLAUDIT_STATE_DIR": str(tmp_path)})

    assert result.exit_code == 0
    assert (folder / "pseudonym.key").read_bytes() == b"x" * 32
    assert (folder / "signing.key").exists()


def test_keys_show_prints_verifier_keys(keys: Path, tmp_path: Path) -> None:
    """What is printed can be given to whoever verifies; an empty folder is an error."""
    shown = run("keys", "show", "--dir", keys)

    assert shown.stdout == SIGNER.public_key.encode() + "\n"
    (tmp_path / "empty").mkdir()
    assert run("keys", "show", "--dir", tmp_path / "empty").exit_code != 0
