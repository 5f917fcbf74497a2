"""``mlaudit checkpoint export``: the newest signed checkpoint of every stream, exported from the store."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlaudit.errors import ChainError, CheckpointError, SourceError
from mlaudit.seal.checkpoint import SignedNote, VerifyingKey
from mlaudit.seal.checkpoint_files import TIMESTAMP_SUFFIX, CheckpointFolder, Exported, append_note
from mlaudit.verify.proof.stored import NOTE
from mlaudit.verify.sources.source import Remarks, Selection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlaudit.verify.sources.source import Source

STANDARD_OUTPUT = "-"


@dataclass(slots=True)
class Newest:
    """The newest good checkpoint of each stream.

    Attributes:
        notes: the text of each note by stream id, and its sequence and hash.
        strangers: number of notes that no trusted key signed.
        conflicts: sentences about streams with two good signatures over different histories.
    """

    notes: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    strangers: int = 0
    conflicts: list[str] = field(default_factory=list)

    def add(self, text: str, keys: Mapping[str, VerifyingKey]) -> None:
        """Adds one note if a trusted key signed it."""
        try:
            note = SignedNote.parse(text)
        except ChainError:
            self.strangers += 1
            return
        key = note.signed_by(keys)
        checkpoint = note.checkpoint
        if key is None or (key.not_after and checkpoint.time > key.not_after):
            self.strangers += 1
            return
        sequence, digest, _ = self.notes.get(checkpoint.stream_id, (-1, "", ""))
        if sequence == checkpoint.sequence and digest != checkpoint.hash:
            self.conflicts.append(
                f"stream {checkpoint.stream_id}: TWO HISTORIES: good signatures name {digest} and {checkpoint.hash} "
                f"for record {sequence}"
            )
        if checkpoint.sequence > sequence:
            self.notes[checkpoint.stream_id] = (checkpoint.sequence, checkpoint.hash, text)


def newest_checkpoints(
    sources: Iterable[Source], keys: Mapping[str, VerifyingKey], stream: str = ""
) -> Newest:
    """Reads sources; memory grows with the number of streams only.

    Raises:
        SourceError: a source could not be checked.
    """
    newest = Newest()
    selection = Selection(streams=frozenset({stream}) if stream else None, signed=True)
    for source in sources:
        for record in source.read(selection, Remarks()):
            text = (record.facts or {}).get(NOTE)
            if isinstance(text, str):
                newest.add(text, keys)
    return newest


@dataclass(slots=True)
class ExportReport:
    """What was exported.

    Attributes:
        counts: how many checkpoints, by what became of them.
        problems: sentences about what contradicts an earlier export, or could not be exported.
        notes: the notes themselves where standard output was named.
    """

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def export(
    sources: Iterable[Source],
    keys: Mapping[str, VerifyingKey],
    *,
    to: str,
    append: Path | None,
    stream: str,
    tsa: str,
    tsa_ca: Path | None,
) -> ExportReport:
    """Exports the newest checkpoint of every stream.

    Raises:
        SourceError: there is no source, nowhere to write, or no signed checkpoint at all.
    """
    if bool(to) == bool(append):
        raise SourceError("expected one target: --to FOLDER, --to - or --append FILE")
    if tsa and (not to or to == STANDARD_OUTPUT):
        raise SourceError(
            "expected --to FOLDER with --tsa: the time-stamp is written next to the checkpoint's file"
        )
    newest = newest_checkpoints(sources, keys, stream)
    if not newest.notes:
        raise SourceError(
            f"expected signed checkpoints, found none that a trusted key signed ({newest.strangers} by other keys)"
        )
    report = ExportReport(problems=list(newest.conflicts))
    for stream_id in sorted(newest.notes):
        sequence, _, note = newest.notes[stream_id]
        try:
            if append is not None:
                append_note(append, note)
                report.counts["appended"] += 1
            elif to == STANDARD_OUTPUT:
                report.notes.append(note)
                report.counts["printed"] += 1
            else:
                folder = CheckpointFolder(Path(to))
                outcome = folder.put(note, keys)
                report.counts[outcome.value] += 1
                if outcome is Exported.LATER:
                    report.problems.append(
                        f"stream {stream_id}: the source ends with the checkpoint of record {sequence}, and a later "
                        "one was exported before; unless this source lags behind, its newest records were removed"
                    )
                elif tsa:
                    report.counts["time-stamped"] += _timestamp(folder.path(stream_id), tsa, tsa_ca)
        except CheckpointError as error:
            report.problems.append(str(error))
    if newest.strangers:
        report.counts["not trusted, left out"] += newest.strangers
    return report


def _timestamp(path: Path, tsa: str, tsa_ca: Path | None) -> int:
    from mlaudit.deliver.spool.files import replace_file
    from mlaudit.verify.timestamps import fetch_timestamp, load_authorities

    stamp = path.with_name(path.name + TIMESTAMP_SUFFIX)
    if stamp.exists():
        return 0
    authorities = load_authorities(tsa_ca) if tsa_ca else ()
    replace_file(stamp, fetch_timestamp(tsa, path.read_bytes(), authorities))
    stamp.chmod(0o644)
    return 1
