"""Makes and rotates the keys of a folder."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from mlaudit.seal import keys as key_files
from mlaudit.seal.rotation import NOTE_SUFFIX, ROTATIONS
from mlaudit.settings import Settings
from mlaudit.verify.trust import keys_folder

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class NewKeys:
    """The keys that were made.

    Attributes:
        signing_key: file of the signing key.
        pseudonym_key: file of the key of the pseudonyms.
        pseudonym_key_existed: it was there before and stays.
        verifier_key_file: file of the verifier key.
        verifier_key: the verifier key as text.
    """

    signing_key: Path
    pseudonym_key: Path
    pseudonym_key_existed: bool
    verifier_key_file: Path
    verifier_key: str


@dataclass(frozen=True, slots=True)
class RotatedKey:
    """A rotation that was made.

    Attributes:
        signing_key: file of the new signing key.
        new_id: its id.
        old_id: id of the key before; its private half is gone.
        not_after: until when checkpoints by the old key are right.
        statement: file of the statement that both keys signed.
        verifier_key_file: file of the new verifier key.
        verifier_key: the new verifier key as text.
    """

    signing_key: Path
    new_id: str
    old_id: str
    not_after: str
    statement: Path
    verifier_key_file: Path
    verifier_key: str


def make_keys(folder: Path | None, name: str | None) -> NewKeys:
    """Makes the signing key, its verifier key and the key of the pseudonyms.

    Raises:
        KeyFileError: a signing key is there already, or a file cannot be written.
    """
    folder = folder or keys_folder()
    path = folder / key_files.SIGNING_KEY
    signer = key_files.create_signing_key(path, name or socket.gethostname() or "mlaudit")
    pseudonym = folder / key_files.PSEUDONYM_KEY
    existed = pseudonym.exists()
    if not existed:
        key_files.create_pseudonym_key(pseudonym)
    public = path.with_suffix(key_files.PUBLIC_SUFFIX)
    return NewKeys(path, pseudonym, existed, public, signer.public_key.encode())


def rotate_key(folder: Path | None, name: str | None, overlap_hours: float) -> RotatedKey:
    """Replaces the signing key; running services use the new one from their next checkpoint on.

    Raises:
        KeyFileError: there is no key to rotate, or a file cannot be written.
    """
    path = Settings.from_env().signing_key_file if folder is None else None
    path = path or (folder or keys_folder()) / key_files.SIGNING_KEY
    name = name or key_files.load_signing_key(path).public_key.name
    rotation = key_files.rotate_signing_key(path, name, datetime.now(UTC), timedelta(hours=overlap_hours))
    return RotatedKey(
        path,
        rotation.new.id,
        rotation.old.id,
        rotation.not_after,
        path.parent / ROTATIONS / f"{rotation.new.id}{NOTE_SUFFIX}",
        path.parent / (rotation.new.id + key_files.PUBLIC_SUFFIX),
        rotation.new.encode(),
    )
