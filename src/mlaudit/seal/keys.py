"""Keys in files: the Ed25519 signing key, the verifier keys, and the secret of the pseudonyms.

A private file that other users can read is refused: a key that might have been copied proves nothing.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mlaudit.deliver.spool.files import sync_folder
from mlaudit.errors import KeyFileError
from mlaudit.rfc3339 import from_datetime
from mlaudit.seal.checkpoint import VerifyingKey
from mlaudit.seal.rotation import NOTE_SUFFIX, ROTATIONS, Rotation, load_rotations, sign_rotation

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from pathlib import Path

SIGNING_KEY: Final = "signing.key"
PSEUDONYM_KEY: Final = "pseudonym.key"
PUBLIC_SUFFIX: Final = ".pub"
_PSEUDONYM_BYTES: Final = 32
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")


class FileSigner:
    """An Ed25519 key from a file."""

    __slots__ = ("_key", "_public")

    def __init__(self, key: Ed25519PrivateKey, name: str) -> None:
        self._key = key
        self._public = VerifyingKey(name, key.public_key().public_bytes_raw())

    @property
    def public_key(self) -> VerifyingKey:
        """The key that verifies what this signer signs."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature of ``message``."""
        return self._key.sign(message)


def create_signing_key(path: Path, name: str) -> FileSigner:
    """Creates a new signing key at ``path`` (PEM, PKCS #8, mode 0600) and its verifier key beside it (``.pub``).

    Raises:
        KeyFileError: the name is invalid, a key already exists, or the file cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise KeyFileError(f"expected a key name of letters, digits and . _ / -, found {name!r}")
    key = Ed25519PrivateKey.generate()
    signer = FileSigner(key, name)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write_new(path, pem, 0o600)
    _write_new(path.with_suffix(PUBLIC_SUFFIX), signer.public_key.encode().encode() + b"\n", 0o644)
    return signer


def load_signing_key(path: Path) -> FileSigner:
    """Reads a signing key and, for its name, the verifier key beside it.

    Raises:
        KeyFileError: a file is missing, malformed, readable by others, or the two do not belong together.
    """
    content = read_private(path)
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except Exception:  # noqa: BLE001 - of the library, and it has many for a damaged file
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(
            f"{path}: expected an unencrypted Ed25519 private key (PEM, PKCS #8); make one with 'mlaudit keys init'"
        )
    public = load_verifier_key(path.with_suffix(PUBLIC_SUFFIX))
    raw = key.public_key().public_bytes_raw()
    if public.raw != raw:
        # A rotation is in progress, or was interrupted between its two renames; the new verifier key already exists.
        others = (load_verifier_key(other) for other in sorted(path.parent.glob(f"*{PUBLIC_SUFFIX}")))
        public = next((other for other in others if other.raw == raw), public)
    signer = FileSigner(key, public.name)
    if signer.public_key != public:
        raise KeyFileError(f"{path}: the verifier key beside it belongs to another key; restore the pair")
    return signer


def load_verifier_key(path: Path) -> VerifyingKey:
    """Reads one ``.pub`` file.

    Raises:
        KeyFileError: it is missing or malformed.
    """
    try:
        line = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path}: expected a verifier key, found {_reason(error)}") from None
    try:
        return VerifyingKey.decode(line)
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error}") from None


def load_verifier_keys(folder: Path) -> dict[str, VerifyingKey]:
    """Every ``.pub`` file of a folder, by key id.

    A key that a rotation statement of the folder retires has the time until which it may sign.

    Raises:
        KeyFileError: the folder cannot be read or one of the files is malformed.
    """
    if not folder.is_dir():
        raise KeyFileError(
            f"{folder}: expected a folder of {PUBLIC_SUFFIX} files; make one with 'mlaudit keys init'"
        )
    paths = sorted(folder.glob(f"*{PUBLIC_SUFFIX}"))
    keys = {key.id: key for key in map(load_verifier_key, paths)}
    for rotation in load_rotations(folder):
        if rotation.old == keys.get(rotation.old.id):
            keys[rotation.old.id] = replace(rotation.old, not_after=rotation.not_after)
    return keys


def rotate_signing_key(path: Path, name: str, now: datetime, overlap: timedelta) -> Rotation:
    """Replaces the signing key at ``path`` with a new one.

    Both verifier keys stay in the folder as ``<key id>.pub``, with a statement that both keys sign. The old private
    key is deleted. After a crash, either the old or the new key is usable.

    Args:
        path: the signing key.
        name: of the new key.
        now: the time of the rotation.
        overlap: how long checkpoints signed by the old key stay valid.

    Raises:
        KeyFileError: the old key cannot be read, the name is invalid, or a file cannot be written.
    """
    old = load_signing_key(path)
    coming = path.with_name(f".{path.stem}-next{path.suffix}")
    for left in (coming, coming.with_suffix(PUBLIC_SUFFIX)):
        left.unlink(missing_ok=True)  # from a rotation that was interrupted before it took effect
    new = create_signing_key(coming, name)
    rotation = Rotation(old.public_key, new.public_key, from_datetime(now), from_datetime(now + overlap))
    folder = path.parent
    # 1. The rotation statement, 2. both verifier keys under their own names, 3. the key, 4. its verifier key.
    note = sign_rotation(rotation, old, new).encode()
    _write_new(folder / ROTATIONS / f"{new.public_key.id}{NOTE_SUFFIX}", note, 0o644)
    for key in (rotation.old, rotation.new):
        own = folder / f"{key.id}{PUBLIC_SUFFIX}"
        if not own.exists():
            _write_new(own, key.encode().encode() + b"\n", 0o644)
    try:
        coming.replace(path)
        coming.with_suffix(PUBLIC_SUFFIX).replace(path.with_suffix(PUBLIC_SUFFIX))
        sync_folder(folder)
    except OSError as error:
        raise KeyFileError(f"{path}: expected to replace the key, found {error.strerror}") from None
    return rotation


Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp | None:
    """A value that changes when the file is replaced or written; None when it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def load_pseudonym_key(path: Path) -> bytes:
    """Reads the secret of the pseudonyms, at least 16 bytes.

    Raises:
        KeyFileError: it is missing, too short or readable by others.
    """
    key = read_private(path)
    if len(key) < 16:
        raise KeyFileError(
            f"{path}: expected at least 16 secret bytes, found {len(key)}; make one with 'mlaudit keys init'"
        )
    return key


def create_pseudonym_key(path: Path) -> bytes:
    """Creates a new secret for the pseudonyms (mode 0600).

    Raises:
        KeyFileError: the file already exists, or cannot be written.
    """
    key = secrets.token_bytes(_PSEUDONYM_BYTES)
    _write_new(path, key, 0o600)
    return key


def read_private(path: Path) -> bytes:
    """The bytes of a file that only its owner can read; the owner must be this user or root.

    A link is followed, and its target is checked. The folder is checked too: a user who may rename files in it can
    replace the key.

    Raises:
        KeyFileError: it is missing or not a regular file, or its mode, owner or folder gives other users access.
    """
    try:
        # Non-blocking: a pipe in the key's place must not hang the service.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KeyFileError(f"{path}: expected a key file, found {_reason(error)}") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise KeyFileError(f"{path}: expected a regular file")
    with os.fdopen(descriptor, "rb") as file:
        if status.st_mode & 0o077:
            raise KeyFileError(
                f"{path}: expected a file that only its owner can read, found mode {status.st_mode & 0o777:04o}; "
                f"run 'chmod 600' on it, and make a new key if another user may have read it"
            )
        user = os.geteuid()
        if user != 0 and status.st_uid not in (user, 0):
            raise KeyFileError(
                f"{path}: expected a file of this user ({user}) or root, found one of user {status.st_uid}, "
                "who can read it; make a key of your own"
            )
        _check_folder(path)
        return file.read(1 << 16)


def _check_folder(path: Path) -> None:
    for folder in {path.parent, path.resolve().parent}:
        mode = folder.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise KeyFileError(
                f"{path}: expected a folder in which others cannot replace files, found {folder} with mode "
                f"{mode & 0o7777:04o}; run 'chmod o-w' on it, and check that the key is still yours"
            )


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        if path.exists():
            raise KeyFileError(
                f"{path}: expected no file, found an existing key; it is not overwritten"
            ) from None
        raise KeyFileError(f"{path}: expected to write a key, found {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "bytes that are not UTF-8"
