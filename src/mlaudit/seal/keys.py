"""Keys in files: the Ed25519 signing key, the verifier keys, and the secret of the pseudonyms.

A private file that others may read is refused rather than used: a key that might have been copied proves nothing.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mlaudit.errors import KeyFileError
from mlaudit.seal.checkpoint import VerifyingKey

if TYPE_CHECKING:
    from pathlib import Path

SIGNING_KEY: Final = "signing.key"
PSEUDONYM_KEY: Final = "pseudonym.key"
PUBLIC_SUFFIX: Final = ".pub"
_PSEUDONYM_BYTES: Final = 32
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")


class FileSigner:
    """An Ed25519 key that was read from a file."""

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
    """Makes a new signing key at ``path`` (PEM, PKCS #8, mode 0600) and its verifier key beside it (``.pub``).

    Raises:
        KeyFileError: the name cannot be used, a key is there already, or the file cannot be written.
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
    try:
        key = serialization.load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(
            f"{path}: expected an unencrypted Ed25519 private key (PEM, PKCS #8); make one with 'mlaudit keys init'"
        )
    public = load_verifier_key(path.with_suffix(PUBLIC_SUFFIX))
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

    Raises:
        KeyFileError: the folder cannot be read or one of the files is malformed.
    """
    if not folder.is_dir():
        raise KeyFileError(
            f"{folder}: expected a folder of {PUBLIC_SUFFIX} files; make one with 'mlaudit keys init'"
        )
    keys = (load_verifier_key(path) for path in sorted(folder.glob(f"*{PUBLIC_SUFFIX}")))
    return {key.id: key for key in keys}


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
    """Makes a new secret for the pseudonyms (mode 0600).

    Raises:
        KeyFileError: a file is there already, or cannot be written.
    """
    key = secrets.token_bytes(_PSEUDONYM_BYTES)
    _write_new(path, key, 0o600)
    return key


def read_private(path: Path) -> bytes:
    """The bytes of a file that only its owner may read.

    Raises:
        KeyFileError: it is missing, no regular file, or its mode lets others at it.
    """
    try:
        # Not blocking: a pipe in the key's place must not hang the service.
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
                f"run 'chmod 600' on it, and make a new key if somebody else may have read it"
            )
        return file.read(1 << 16)


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
            raise KeyFileError(f"{path}: a key is there already; it is not overwritten") from None
        raise KeyFileError(f"{path}: expected to write a key, found {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "bytes that are not UTF-8"
