from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.sealed import SIGNER, STRANGER

from mlaudit.errors import ChainError, KeyFileError
from mlaudit.seal import keys
from mlaudit.seal.rotation import (
    Rotation,
    follow_rotations,
    load_rotations,
    read_rotation,
    rotation_note,
    sign_rotation,
)

NOW = datetime(2026, 11, 25, 3, 30, tzinfo=UTC)
ROTATION = Rotation(SIGNER.public_key, STRANGER.public_key, "2026-11-25T03:30:00Z", "2026-11-26T03:30:00Z")
NOTE = sign_rotation(ROTATION, SIGNER, STRANGER)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A signing key in a folder of its own."""
    path = tmp_path / "keys" / "signing.key"
    keys.create_signing_key(path, "host-1")
    return path


def test_statement_is_signed_by_both(key: Path) -> None:
    """The parsed rotation equals the signed one, and both signatures are required."""
    assert read_rotation(NOTE) == ROTATION
    lines = NOTE.splitlines(keepends=True)
    for left_out in (-1, -2):
        with pytest.raises(KeyFileError, match="signature of key"):
            read_rotation("".join(line for line in lines if line is not lines[left_out]))


@pytest.mark.parametrize(
    "note",
    [
        "",
        "mlaudit/checkpoint/v1\na\nb\nc\nd\n\n",
        NOTE.replace("2026-11-26", "2036-11-26"),
        NOTE.replace("\N{EM DASH} stranger", "stranger"),
        NOTE.replace(STRANGER.public_key.encode(), SIGNER.public_key.encode()),
    ],
)
def test_other_statement_is_refused(note: str) -> None:
    """A statement that was altered or is malformed is refused."""
    with pytest.raises((KeyFileError, ChainError)):
        read_rotation(note)


def test_rotation_leaves_both_verifier_keys(key: Path) -> None:
    """The folder trusts both keys, the old one until the overlap is over, and only the new one can sign."""
    old = keys.load_signing_key(key)

    rotation = keys.rotate_signing_key(key, "host-1b", NOW, timedelta(hours=2))

    new = keys.load_signing_key(key)
    assert (rotation.old, rotation.new) == (old.public_key, new.public_key)
    assert new.public_key.name == "host-1b"
    trusted = keys.load_verifier_keys(key.parent)
    assert set(trusted) == {old.public_key.id, new.public_key.id}
    assert trusted[old.public_key.id].not_after == "2026-11-25T05:30:00.000000000Z"
    assert trusted[new.public_key.id].not_after == ""
    assert read_rotation(rotation_note(key.parent, new.public_key.id)) == rotation
    private = [path for path in key.parent.rglob("*") if path.is_file() and b"PRIVATE" in path.read_bytes()]
    assert private == [key]


def test_crash_in_a_rotation_leaves_a_usable_key(key: Path) -> None:
    """Between its two renames, and before them, the folder holds a key that can be loaded; the next rotation works."""
    before = key.parent.with_name("before")
    shutil.copytree(key.parent, before)
    rotation = keys.rotate_signing_key(key, "host-1b", NOW, timedelta(hours=2))

    # The new key is in place, and the verifier key beside it is still the old one.
    shutil.copy(before / "signing.pub", key.with_suffix(".pub"))
    assert keys.load_signing_key(key).public_key == rotation.new
    # The other way round: the statement is written, nothing is renamed.
    shutil.copy(before / "signing.key", key)
    assert keys.load_signing_key(key).public_key == rotation.old
    # Half of the next key was written.
    key.with_name(".signing-next.key").write_text("half")
    again = keys.rotate_signing_key(key, "host-1c", NOW, timedelta(0))
    assert keys.load_signing_key(key).public_key == again.new


def test_rotations_are_followed_from_a_trusted_key_only(key: Path) -> None:
    """A chain of rotations leads from a trusted key to the newest, and from an unknown key nowhere."""
    first = keys.load_signing_key(key).public_key
    second = keys.rotate_signing_key(key, "host-1", NOW, timedelta(0)).new
    third = keys.rotate_signing_key(key, "host-1", NOW + timedelta(days=1), timedelta(0)).new

    followed = follow_rotations({first.id: first}, key.parent)

    assert set(followed) == {first.id, second.id, third.id}
    assert followed[second.id].not_after
    assert follow_rotations({SIGNER.public_key.id: SIGNER.public_key}, key.parent).keys() == {
        SIGNER.public_key.id
    }
    assert [rotation.new for rotation in load_rotations(key.parent)] == [second, third]


def test_altered_statement_in_the_folder_is_an_error(key: Path) -> None:
    """A statement with an invalid signature is an error."""
    keys.rotate_signing_key(key, "host-1", NOW, timedelta(hours=2))
    (note,) = (key.parent / "rotations").iterdir()
    note.write_text(note.read_text().replace("2026-11-25T05", "2036-11-25T05"))

    with pytest.raises(KeyFileError, match="signature of key"):
        keys.load_verifier_keys(key.parent)
