from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

import pytest
from tests.sealed import KEYS, SIGNER, STRANGER

from mlaudit.errors import ChainError, KeyFileError
from mlaudit.seal.checkpoint import Checkpoint, SignedNote, VerifyingKey, sign_note

CHECKPOINT = Checkpoint("019ab8a0-0000-7000-8000-000000000001", 41, "4e" * 32, "2026-11-25T03:30:00Z")
NOTE = sign_note(CHECKPOINT, SIGNER)


def test_note_has_the_form_of_the_specification() -> None:
    """Five lines, an empty one, and a signature line with an em dash, as C2SP signed-note requires."""
    lines = NOTE.split("\n")

    assert lines[:5] == [
        "mlaudit/checkpoint/v1",
        CHECKPOINT.stream_id,
        "41",
        "4e" * 32,
        "2026-11-25T03:30:00Z",
    ]
    assert lines[5] == ""
    assert lines[6].startswith("\N{EM DASH} test ")
    assert lines[7:] == [""]


def test_key_id_depends_on_name_and_key() -> None:
    """The id is the beginning of SHA-256 over name, newline, algorithm and key."""
    key = SIGNER.public_key

    assert key.id == sha256(b"test\n\x01" + key.raw).hexdigest()[:8]
    assert VerifyingKey("other", key.raw).id != key.id


def test_verifier_key_of_the_go_implementation_is_read() -> None:
    """The example key of Go's sumdb/note package has the id that that implementation computes."""
    line = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"

    key = VerifyingKey.decode(line)

    assert (key.name, key.id, key.encode()) == ("PeterNeumann", "c74f20a3", line)


def test_signed_note_of_the_go_implementation_is_verified() -> None:
    """The example signature of Go's sumdb/note package is valid under its key."""
    key = VerifyingKey.decode("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = (
        b"If you think cryptography is the answer to your problem,\n"
        b"then you don't know what your problem is.\n"
    )
    from base64 import b64decode

    raw = b64decode(
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    )

    assert raw[:4].hex() == key.id
    assert key.verifies(raw[4:], text)
    assert not key.verifies(raw[4:], text + b"!")


def test_note_is_read_back_and_verified() -> None:
    """A parsed note equals the signed one, and names the signing key."""
    note = SignedNote.parse(NOTE)

    assert note.checkpoint == CHECKPOINT
    assert note.signed_by(KEYS) == SIGNER.public_key


def test_key_that_is_not_trusted_signs_nothing() -> None:
    """A note by another key, or by another key with the same name, counts as unsigned."""
    impostor = VerifyingKey("test", STRANGER.public_key.raw)

    assert SignedNote.parse(sign_note(CHECKPOINT, STRANGER)).signed_by(KEYS) is None
    assert SignedNote.parse(NOTE).signed_by({impostor.id: impostor}) is None
    assert SignedNote.parse(NOTE).signed_by({SIGNER.public_key.id: impostor}) is None
    assert SignedNote.parse(NOTE).signed_by({}) is None


def test_one_of_several_signatures_is_enough() -> None:
    """During a rotation a note carries signatures of both keys."""
    both = NOTE + sign_note(CHECKPOINT, STRANGER).split("\n\n")[1]

    note = SignedNote.parse(both)

    assert len(note.signatures) == 2
    assert note.signed_by(KEYS) == SIGNER.public_key
    assert note.signed_by({STRANGER.public_key.id: STRANGER.public_key}) == STRANGER.public_key


@pytest.mark.parametrize("line", range(1, 5))
def test_change_of_any_line_breaks_the_signature(line: int) -> None:
    """No line of the note can be changed."""
    lines = NOTE.split("\n")
    lines[line] = "42" if line == 2 else lines[line].replace("0", "1").replace("4", "5")

    assert SignedNote.parse("\n".join(lines)).signed_by(KEYS) is None


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n\n",
        NOTE.replace("mlaudit/checkpoint/v1", "mlaudit/checkpoint/v2"),
        NOTE.replace("\n41\n", "\n041\n"),
        NOTE.replace("\n41\n", "\n-1\n"),
        NOTE.replace("\n41\n", f"\n{'9' * 5000}\n"),
        NOTE.replace("\n41\n", "\n४१\n"),
        NOTE.replace("\n41\n", "\n41\nmore\n"),
        NOTE.replace("\N{EM DASH} test", "- test"),
        NOTE.replace("\N{EM DASH} test ", "\N{EM DASH} test "[:-1]),
        NOTE[:-10] + "\n",
        NOTE.replace("\n\n", "\n"),
    ],
)
def test_other_forms_are_refused(note: str) -> None:
    """A note is read strictly; the error says which line is wrong."""
    with pytest.raises(ChainError, match="expected"):
        SignedNote.parse(note)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "name",
        "name+00000000",
        "name+00000000+!!!",
        "name+00000000+" + b64encode(b"\x01short").decode(),
        "name+00000000+" + b64encode(b"\x02" + b"x" * 32).decode(),
        "+00000000+" + b64encode(b"\x01" + b"x" * 32).decode(),
    ],
)
def test_other_keys_are_refused(line: str) -> None:
    """A malformed verifier key is an error that says how to create one."""
    with pytest.raises(KeyFileError, match="mlaudit keys init"):
        VerifyingKey.decode(line)


def test_key_whose_id_was_altered_is_refused() -> None:
    """The id in a verifier key must belong to its key."""
    name, _, raw = SIGNER.public_key.encode().split("+", 2)

    with pytest.raises(KeyFileError, match="the line was altered"):
        VerifyingKey.decode(f"{name}+00000000+{raw}")
