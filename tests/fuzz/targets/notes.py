"""Checkpoints, verifier keys and key files of any content: read, or rejected with mlaudit's own errors."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.choices import Choices
from tests.fuzz.ground import fresh_folder
from tests.sealed import KEYS, SIGNER

from mlaudit.errors import ChainError, KeyFileError
from mlaudit.seal.checkpoint import Checkpoint, SignedNote, VerifyingKey, sign_note
from mlaudit.seal.keys import load_pseudonym_key, load_signing_key, load_verifier_key

_CHECKPOINT = Checkpoint(
    "019ab8a0-0000-7000-8000-000000000001", 42, "ab" * 32, "2026-11-25T03:30:00.000000000Z"
)
_NOTE = sign_note(_CHECKPOINT, SIGNER)
_PEM = (
    b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n"
    b"-----END PRIVATE KEY-----\n"
)


def run(data: bytes) -> None:
    """Reads one of the three."""
    choices = Choices(data)
    way = choices.below(3)
    if way == 0:
        _note(choices)
    elif way == 1:
        _verifier_key(choices)
    else:
        with fresh_folder() as folder:
            _files(folder, choices)


def _note(choices: Choices) -> None:
    raw = choices.mutated(_NOTE.encode()) if choices.often() else choices.rest()
    text = raw.decode("utf-8", "replace")
    try:
        note = SignedNote.parse(text)
    except ChainError as error:
        assert str(error)
        return
    if note.signed_by(KEYS) is not None:
        assert note.checkpoint == _CHECKPOINT, "a good signature under something else than what was signed"


def _verifier_key(choices: Choices) -> None:
    line = SIGNER.public_key.encode()
    raw = choices.mutated(line.encode()) if choices.often() else choices.rest()
    try:
        key = VerifyingKey.decode(raw.decode("utf-8", "surrogateescape"))
    except KeyFileError as error:
        assert str(error)
        return
    assert VerifyingKey.decode(key.encode()) == key


def _files(folder: Path, choices: Choices) -> None:
    private, public = folder / "signing.key", folder / "signing.pub"
    private.write_bytes(choices.mutated(_PEM))
    private.chmod(0o644 if choices.seldom() else 0o600)
    public.write_bytes(choices.mutated(SIGNER.public_key.encode().encode()))
    for load in (load_signing_key, load_pseudonym_key):
        try:
            load(private)
        except KeyFileError as error:
            assert str(private) in str(error) or str(public) in str(error)
    try:
        load_verifier_key(public)
    except KeyFileError as error:
        assert str(public) in str(error)
