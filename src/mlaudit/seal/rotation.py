"""The statement that one signing key replaces another: a note that both keys sign.

Format (C2SP signed-note): ``mlaudit/rotation/v1``, the old verifier key, the new verifier key, the time of the
rotation, the time until which the old key may still sign (RFC 3339, UTC), an empty line, both signatures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mlaudit.errors import ChainError, KeyFileError
from mlaudit.seal.checkpoint import (
    Signature,
    VerifyingKey,
    read_signatures,
    signature_line,
    signed_by,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlaudit.seal.checkpoint import Signer

ORIGIN: Final = "mlaudit/rotation/v1"
NOTE_SUFFIX: Final = ".note"
ROTATIONS: Final = "rotations"


@dataclass(frozen=True, slots=True)
class Rotation:
    """One key replaces another; the old key may sign until ``not_after``."""

    old: VerifyingKey
    new: VerifyingKey
    time: str
    not_after: str

    def text(self) -> str:
        """The signed text."""
        return f"{ORIGIN}\n{self.old.encode()}\n{self.new.encode()}\n{self.time}\n{self.not_after}\n"


def sign_rotation(rotation: Rotation, old: Signer, new: Signer) -> str:
    """The note of a rotation, signed by both keys."""
    text = rotation.text()
    return f"{text}\n{signature_line(text, old)}{signature_line(text, new)}"


def read_rotation(note: str) -> Rotation:
    """Parses a rotation and verifies both signatures. The caller decides whether the old key is trusted.

    Raises:
        ChainError: a signature line is malformed.
        KeyFileError: it is not a rotation, or one of the two keys did not sign it.
    """
    text, separator, tail = note.partition("\n\n")
    lines = text.split("\n")
    if not separator or len(lines) != 5 or lines[0] != ORIGIN:
        raise KeyFileError(f"expected a signed note of '{ORIGIN}' with five lines, found {lines[:1]}")
    rotation = Rotation(VerifyingKey.decode(lines[1]), VerifyingKey.decode(lines[2]), lines[3], lines[4])
    signatures = read_signatures(tail)
    for key in (rotation.old, rotation.new):
        if not _signs(key, rotation, signatures):
            raise KeyFileError(
                f"expected the signature of key {key.id} under the rotation, found no valid one"
            )
    return rotation


def _signs(key: VerifyingKey, rotation: Rotation, signatures: tuple[Signature, ...]) -> bool:
    return signed_by(rotation.text(), signatures, {key.id: key}) is not None


def follow_rotations(keys: Mapping[str, VerifyingKey], folder: Path) -> dict[str, VerifyingKey]:
    """``keys`` and every key that replaces one of them, directly or through further rotations.

    Raises:
        KeyFileError: a rotation statement is malformed or not signed by both of its keys.
    """
    trusted = dict(keys)
    rotations = load_rotations(folder)
    retired = {rotation.old.id: rotation.not_after for rotation in rotations}
    found = True
    while found:
        found = False
        for rotation in rotations:
            new = rotation.new
            if rotation.old == trusted.get(rotation.old.id) and new.id not in trusted:
                trusted[new.id] = replace(new, not_after=retired.get(new.id, ""))
                found = True
    return trusted


def load_rotations(folder: Path) -> list[Rotation]:
    """The rotation statements of a key folder, oldest first; both signatures of each are verified.

    Raises:
        KeyFileError: one is malformed or not signed by both of its keys.
    """
    rotations = []
    for path in (folder / ROTATIONS).glob(f"*{NOTE_SUFFIX}"):
        try:
            rotations.append(read_rotation(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, KeyFileError, ChainError) as error:
            raise KeyFileError(f"{path}: {error}") from None
    return sorted(rotations, key=lambda rotation: rotation.time)


def rotation_note(folder: Path, key_id: str) -> str:
    """The rotation statement that introduced the key, as in its file; the empty string when there is none."""
    try:
        return (folder / ROTATIONS / f"{key_id}{NOTE_SUFFIX}").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
