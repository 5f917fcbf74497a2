"""The inputs of a verification: the keys that the caller trusts, and checkpoints from outside the source."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlaudit.errors import ChainError, CheckpointError, KeyFileError, SourceError, TimestampError
from mlaudit.seal import keys as key_files
from mlaudit.seal.checkpoint import Checkpoint, SignedNote, VerifyingKey
from mlaudit.seal.checkpoint_files import TIMESTAMP_SUFFIX, read_notes
from mlaudit.seal.rotation import follow_rotations as followed
from mlaudit.settings import Settings
from mlaudit.verify.proof import finding_codes as codes
from mlaudit.verify.proof.finding_codes import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


@dataclass(slots=True)
class Known:
    """Checkpoints from outside the source, with checked signatures and findings.

    Attributes:
        checkpoints: all of them.
        findings: about the checkpoints themselves.
        times: what time-stamps prove: file, stream, sequence and time of each.
        not_checked: what was not checked, as sentences.
    """

    checkpoints: list[Checkpoint] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    times: list[dict[str, str | int]] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)


def keys_folder() -> Path:
    """The default folder of keys."""
    return Settings.from_env().state_dir / "keys"


def trusted_keys(folder: Path | None, *, follow_rotations: bool = False) -> dict[str, VerifyingKey]:
    """The keys of ``folder``, else those of the settings.

    With ``follow_rotations`` also keys that a rotation statement in the folder derives from one of them.

    Raises:
        KeyFileError: there is none, or one is malformed.
    """
    if folder is None:
        configured = Settings.from_env().signing_key_file
        if configured is not None:
            public = configured.with_suffix(key_files.PUBLIC_SUFFIX)
            key = key_files.load_verifier_key(public)
            retired = key_files.load_verifier_keys(public.parent)
            return {**{other.id: other for other in retired.values() if other.not_after}, key.id: key}
        folder = keys_folder()
    trusted = some_keys(folder)
    return followed(trusted, folder) if follow_rotations else trusted


def some_keys(folder: Path) -> dict[str, VerifyingKey]:
    """The verifier keys of a folder, at least one.

    Raises:
        KeyFileError: there is none, or one is malformed.
    """
    trusted = key_files.load_verifier_keys(folder) if folder.is_dir() else {}
    if not trusted:
        raise KeyFileError(
            f"{folder}: expected at least one verifier key (.pub), found none; copy the signing hosts' signing.pub "
            "there (any name ending in .pub), name another folder with --keys, or check without signatures with "
            "--unsigned"
        )
    return trusted


def known_checkpoints(
    paths: Iterable[Path], trusted: Mapping[str, VerifyingKey] | None, tsa_ca: Path | None = None
) -> Known:
    """Reads checkpoints from outside the source: files of one or more notes, and folders of such files.

    Args:
        paths: files and folders.
        trusted: the keys; each checkpoint must be signed by one of them. None skips signatures.
        tsa_ca: certificates (PEM) of the authorities that are trusted for time-stamps.

    Raises:
        SourceError: a path cannot be read or holds something else.
        KeyFileError: a checkpoint is not signed by a trusted key.
    """
    known = Known()
    hashes: dict[tuple[str, int], str] = {}
    for path in paths:
        try:
            notes = read_notes(path)
        except CheckpointError as error:
            raise SourceError(str(error)) from None
        for file, text in notes:
            try:
                note = SignedNote.parse(text)
            except ChainError as error:
                raise SourceError(f"{file}: {error}") from None
            _check_signature(note, file, trusted, known)
            checkpoint = note.checkpoint
            known.checkpoints.append(checkpoint)
            before = hashes.setdefault((checkpoint.stream_id, checkpoint.sequence), checkpoint.hash)
            if before != checkpoint.hash:
                known.findings.append(
                    Finding(
                        codes.CHECKPOINT_MISMATCH,
                        "two good signatures name different hashes for one record: there are two histories",
                        checkpoint.stream_id,
                        checkpoint.sequence,
                        checkpoint.sequence,
                        expected=before,
                        found=checkpoint.hash,
                        where=str(file),
                    )
                )
            _check_time(file, text, checkpoint, tsa_ca, known)
    return known


def _check_signature(
    note: SignedNote, file: Path, trusted: Mapping[str, VerifyingKey] | None, known: Known
) -> None:
    if trusted is None:
        return
    key = note.signed_by(trusted)
    if key is None:
        raise KeyFileError(f"{file}: expected a checkpoint signed by a trusted key, found another signature")
    checkpoint = note.checkpoint
    if key.not_after and checkpoint.time > key.not_after:
        known.findings.append(
            Finding(
                codes.CHECKPOINT_RETIRED_KEY,
                f"the checkpoint is signed by key {key.id}, which was retired before",
                checkpoint.stream_id,
                checkpoint.sequence,
                checkpoint.sequence,
                expected=f"not after {key.not_after}",
                found=checkpoint.time,
                where=str(file),
            )
        )


def _check_time(file: Path, text: str, checkpoint: Checkpoint, tsa_ca: Path | None, known: Known) -> None:
    stamp = file.with_name(file.name + TIMESTAMP_SUFFIX)
    if not stamp.is_file():
        return
    if tsa_ca is None:
        known.not_checked.append(
            f"{stamp}: a time-stamp; name the certificate of its authority with --tsa-ca"
        )
        return
    from mlaudit.verify.timestamps import check_timestamp, load_authorities

    try:
        time = check_timestamp(stamp.read_bytes(), text.encode(), load_authorities(tsa_ca))
    except (TimestampError, OSError) as error:
        known.findings.append(
            Finding(
                codes.TIMESTAMP_INVALID,
                str(error),
                checkpoint.stream_id,
                checkpoint.sequence,
                checkpoint.sequence,
                where=str(stamp),
            )
        )
        return
    known.times.append(
        {
            "file": str(stamp),
            "stream_id": checkpoint.stream_id,
            "sequence": checkpoint.sequence,
            "time": time,
        }
    )
