from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mlaudit.errors import KeyFileError
from mlaudit.seal import keys


def test_new_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    """The signing key has mode 0600, the folder 0700, and the verifier key is readable by everybody."""
    path = tmp_path / "keys" / "signing.key"

    signer = keys.create_signing_key(path, "host-1")

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert keys.load_verifier_key(path.with_suffix(".pub")) == signer.public_key


def test_key_that_is_read_back_signs_the_same(tmp_path: Path) -> None:
    """A loaded key signs what the verifier key beside it verifies."""
    path = tmp_path / "signing.key"
    made = keys.create_signing_key(path, "host-1")

    loaded = keys.load_signing_key(path)

    assert loaded.public_key == made.public_key
    assert made.public_key.verifies(loaded.sign(b"x"), b"x")


def test_key_is_never_overwritten(tmp_path: Path) -> None:
    """A second key in the same place is refused, and the first stays."""
    path = tmp_path / "signing.key"
    first = keys.create_signing_key(path, "host-1").public_key

    with pytest.raises(KeyFileError, match="not overwritten"):
        keys.create_signing_key(path, "host-1")
    assert keys.load_signing_key(path).public_key == first


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    """A key that might have been copied proves nothing."""
    path = tmp_path / "signing.key"
    keys.create_signing_key(path, "host-1")
    path.chmod(mode)

    with pytest.raises(KeyFileError, match=f"{mode:04o}"):
        keys.load_signing_key(path)


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    """A malformed key file is an error that says what was expected, and shows nothing of the content."""
    path = tmp_path / "signing.key"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(KeyFileError, match="expected an unencrypted Ed25519 private key") as caught:
        keys.load_signing_key(path)
    assert "garbage" not in str(caught.value)


def test_pair_must_belong_together(tmp_path: Path) -> None:
    """A verifier key of another signing key is refused."""
    keys.create_signing_key(tmp_path / "a.key", "host-1")
    keys.create_signing_key(tmp_path / "b.key", "host-1")
    (tmp_path / "b.pub").replace(tmp_path / "a.pub")

    with pytest.raises(KeyFileError, match="belongs to another key"):
        keys.load_signing_key(tmp_path / "a.key")


@pytest.mark.parametrize("name", ["", "a b", "a+b", "-a", "a\n", "ä", "a" * 200])
def test_name_must_fit_a_note(tmp_path: Path, name: str) -> None:
    """Names that a signature line cannot carry are refused before a key is made."""
    with pytest.raises(KeyFileError, match="expected a key name"):
        keys.create_signing_key(tmp_path / "signing.key", name)
    assert list(tmp_path.iterdir()) == []


def test_folder_of_verifier_keys(tmp_path: Path) -> None:
    """Every .pub file of the folder is trusted, by key id; one malformed file makes the folder invalid."""
    one = keys.create_signing_key(tmp_path / "one.key", "host-1").public_key
    two = keys.create_signing_key(tmp_path / "two.key", "host-2").public_key

    assert keys.load_verifier_keys(tmp_path) == {one.id: one, two.id: two}
    (tmp_path / "three.pub").write_text("nonsense")
    with pytest.raises(KeyFileError, match=r"three\.pub"):
        keys.load_verifier_keys(tmp_path)
    with pytest.raises(KeyFileError, match="expected a folder"):
        keys.load_verifier_keys(tmp_path / "absent")


def test_pseudonym_key_is_long_and_private(tmp_path: Path) -> None:
    """The secret of the pseudonyms is random, for its owner alone, and never overwritten or accepted short."""
    path = tmp_path / "pseudonym.key"
    secret = keys.create_pseudonym_key(path)

    assert len(secret) == 32
    assert keys.load_pseudonym_key(path) == secret
    with pytest.raises(KeyFileError, match="not overwritten"):
        keys.create_pseudonym_key(path)
    path.write_bytes(b"short")
    with pytest.raises(KeyFileError, match="at least 16 secret bytes, found 5"):
        keys.load_pseudonym_key(path)


def test_absent_or_odd_files_are_errors(tmp_path: Path) -> None:
    """A missing file, a folder in its place, and a pipe are refused without waiting."""
    with pytest.raises(KeyFileError, match="No such file"):
        keys.read_private(tmp_path / "absent")
    os.mkfifo(tmp_path / "pipe", 0o600)
    for odd in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(KeyFileError, match="expected a regular file"):
            keys.read_private(odd)
    with pytest.raises(KeyFileError, match="expected a verifier key"):
        keys.load_verifier_key(tmp_path / "absent.pub")
    (tmp_path / "binary.pub").write_bytes(b"\xff\xfe")
    with pytest.raises(KeyFileError, match="not UTF-8"):
        keys.load_verifier_key(tmp_path / "binary.pub")


def test_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """When no key can be written, the error says so."""
    (tmp_path / "keys").write_text("a file, not a folder")
    with pytest.raises(KeyFileError, match="expected to write a key"):
        keys.create_signing_key(tmp_path / "keys" / "signing.key", "host-1")


def test_link_is_judged_by_what_it_leads_to(tmp_path: Path) -> None:
    """A link to a key that others can read is refused, and one to a valid key is followed, for both kinds of key."""
    path = tmp_path / "real" / "signing.key"
    keys.create_signing_key(path, "host-1")
    secret = tmp_path / "real" / "pseudonym.key"
    keys.create_pseudonym_key(secret)
    for name in ("signing.key", "signing.pub", "pseudonym.key"):
        (tmp_path / name).symlink_to(tmp_path / "real" / name)

    assert keys.load_signing_key(tmp_path / "signing.key").public_key.name == "host-1"
    assert keys.load_pseudonym_key(tmp_path / "pseudonym.key") == secret.read_bytes()
    path.chmod(0o644)
    secret.chmod(0o640)
    with pytest.raises(KeyFileError, match="0644"):
        keys.load_signing_key(tmp_path / "signing.key")
    with pytest.raises(KeyFileError, match="0640"):
        keys.load_pseudonym_key(tmp_path / "pseudonym.key")


def test_folder_in_which_anybody_may_rename_is_refused(tmp_path: Path) -> None:
    """A folder in which everybody can replace the key is refused; with the sticky bit only the owner can."""
    folder = tmp_path / "open"
    path = folder / "signing.key"
    keys.create_signing_key(path, "host-1")
    folder.chmod(0o777)

    with pytest.raises(KeyFileError, match="0777"):
        keys.load_signing_key(path)
    folder.chmod(0o1777)
    assert keys.load_signing_key(path).public_key.name == "host-1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_key_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that belongs to another user is refused even with the right mode; root may use it."""
    path = tmp_path / "signing.key"
    keys.create_signing_key(path, "host-1")
    os.chown(path, 1234, 1234)

    assert keys.load_signing_key(path).public_key.name == "host-1"
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    with pytest.raises(KeyFileError, match="found one of user 1234"):
        keys.load_signing_key(path)
