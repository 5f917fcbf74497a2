"""Signed checkpoints: the head of a chain at one time, in a form that can be verified without the records.

A checkpoint is a note in the sense of C2SP signed-note (https://c2sp.org/signed-note): five lines of text, an empty
line, and a line per signature. Any implementation of that format can verify it with the public key.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mlaudit.errors import ChainError, KeyFileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ORIGIN: Final = "mlaudit/checkpoint/v1"
_ED25519: Final = b"\x01"
_SEQUENCE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_BEGIN: Final = re.compile(f"^{re.escape(ORIGIN)}$", re.MULTILINE)
_SIGNATURE_PREFIX: Final = "\N{EM DASH} "


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of one stream: ``hash`` of the record ``sequence``, at ``time`` (RFC 3339, UTC)."""

    stream_id: str
    sequence: int
    hash: str
    time: str

    def text(self) -> str:
        """The signed text, ending in a newline."""
        return f"{ORIGIN}\n{self.stream_id}\n{self.sequence}\n{self.hash}\n{self.time}\n"


class Signer(Protocol):
    """Signs checkpoints. The default is a key in a file; ``MLAUDIT_SIGNER`` names another, see docs/keys.md.

    Both members may be slow: they are used in a thread of their own, one at a time, and have 5 seconds.
    """

    @property
    def public_key(self) -> VerifyingKey:
        """The key that verifies what this signer signs.

        Raises:
            SignerError: it is not available now.
        """
        ...

    def sign(self, message: bytes) -> bytes:
        """Signs the message itself, not a hash of it.

        Args:
            message: some hundred bytes of UTF-8 text.

        Returns:
            The Ed25519 signature (RFC 8032), 64 bytes.

        Raises:
            SignerError: signing failed; mlaudit tries again.
        """
        ...


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A named Ed25519 public key.

    Attributes:
        name: any printable text without spaces and plus signs.
        raw: the public key (RFC 8032), 32 bytes.
        not_after: when it was retired, RFC 3339 in UTC; empty for never. Later signatures are not valid.
    """

    name: str
    raw: bytes
    not_after: str = field(default="", compare=False)

    @property
    def id(self) -> str:
        """Key id of the signed-note format: 8 hex digits that depend on the name and the key."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.raw).digest()[:4].hex()

    def encode(self) -> str:
        """One line, ``name+id+base64``, as signed-note tools write verifier keys."""
        return f"{self.name}+{self.id}+{b64encode(_ED25519 + self.raw).decode()}"

    @classmethod
    def decode(cls, line: str) -> VerifyingKey:
        """Parses the line that ``encode`` writes.

        Args:
            line: ``name+id+base64``; white space around it is ignored.

        Raises:
            KeyFileError: a MlauditError; the line is malformed, or its id does not belong to its key.
        """
        name, _, rest = line.strip().partition("+")
        stated, _, encoded = rest.partition("+")
        try:
            raw = b64decode(encoded, validate=True)
        except ValueError:
            raw = b""
        # A name is displayed, and the format joins it with spaces and plus signs.
        if not name.isprintable() or not name or " " in name or len(raw) != 33 or raw[:1] != _ED25519:
            raise KeyFileError(
                "expected a verifier key 'name+id+base64' of an Ed25519 key; write one with 'mlaudit keys init'"
            )
        key = cls(name, raw[1:])
        if key.id != stated:
            raise KeyFileError(f"expected key id {key.id} for {name}, found {stated}; the line was altered")
        return key

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether ``signature`` is a valid signature of ``message`` by this key.

        Args:
            signature: an Ed25519 signature, 64 bytes; any other length is not valid.
            message: the signed bytes.
        """
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


def sign_note(checkpoint: Checkpoint, signer: Signer) -> str:
    """The signed note of a checkpoint."""
    text = checkpoint.text()
    return f"{text}\n{signature_line(text, signer)}"


def signature_line(text: str, signer: Signer) -> str:
    """The signature line of ``signer`` for a note's text."""
    key = signer.public_key
    signature = b64encode(bytes.fromhex(key.id) + signer.sign(text.encode())).decode()
    return f"{_SIGNATURE_PREFIX}{key.name} {signature}\n"


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line of a note, not yet checked."""

    key_name: str
    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A parsed note: nothing in it is trusted before ``signed_by`` returns a key."""

    checkpoint: Checkpoint
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, note: str) -> SignedNote:
        """Parses a signed checkpoint.

        Raises:
            ChainError: a line is malformed; the error names it.
        """
        text, separator, tail = note.partition("\n\n")
        lines = text.split("\n")
        if not separator or len(lines) != 5 or lines[0] != ORIGIN:
            raise ChainError(f"expected a signed note of '{ORIGIN}' with five lines, found {lines[:1]}")
        if not _SEQUENCE.fullmatch(lines[2]):
            raise ChainError(f"checkpoint: expected a sequence number, found {lines[2]!r}")
        checkpoint = Checkpoint(lines[1], int(lines[2]), lines[3], lines[4])
        return cls(checkpoint, read_signatures(tail))

    def signed_by(self, keys: Mapping[str, VerifyingKey]) -> VerifyingKey | None:
        """The first key of ``keys`` (by key id) whose signature of this note is valid, or None."""
        return signed_by(self.checkpoint.text(), self.signatures, keys)


def read_signatures(lines: str) -> tuple[Signature, ...]:
    """The signature lines of a note.

    Raises:
        ChainError: a line is malformed; the error names it.
    """
    signatures = []
    for line in lines.splitlines():
        name, _, encoded = line.removeprefix(_SIGNATURE_PREFIX).partition(" ")
        try:
            raw = b64decode(encoded, validate=True)
        except ValueError:
            raw = b""
        if not line.startswith(_SIGNATURE_PREFIX) or not name or len(raw) != 68:
            raise ChainError(f"checkpoint: expected a signature line, found {line!r}")
        signatures.append(Signature(name, raw[:4].hex(), raw[4:]))
    return tuple(signatures)


def signed_by(
    text: str, signatures: Iterable[Signature], keys: Mapping[str, VerifyingKey]
) -> VerifyingKey | None:
    """The first key of ``keys`` (by key id) whose signature of a note's text is valid, or None."""
    message = text.encode()
    for signature in signatures:
        key = keys.get(signature.key_id)
        if key and key.name == signature.key_name and key.verifies(signature.signature, message):
            return key
    return None


def split_notes(text: str) -> list[str]:
    """The checkpoints that follow one another in a file, each as its own note."""
    begins = [match.start() for match in _BEGIN.finditer(text)]
    head = text[: begins[0]] if begins else text
    parts = [text[start:end].rstrip("\n") + "\n" for start, end in pairwise([*begins, len(text)])]
    return [head, *parts] if head.strip() else parts
