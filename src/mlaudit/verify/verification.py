"""Runs the proof over a source: every stream, then the links between streams."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Final

from mlaudit.errors import KeyFileError, SourceError
from mlaudit.rfc3339 import from_datetime
from mlaudit.verify.links import Links
from mlaudit.verify.proof import finding_codes as codes
from mlaudit.verify.proof.finding_codes import Finding
from mlaudit.verify.proof.proof import StreamProof
from mlaudit.verify.proof.stored import settle_contested
from mlaudit.verify.proof.summary import Scope, StreamSummary
from mlaudit.verify.report import Report
from mlaudit.verify.sources.sorter import RecordSorter
from mlaudit.verify.sources.source import Remarks, Selection, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from mlaudit.seal.checkpoint import Checkpoint, VerifyingKey
    from mlaudit.verify.proof.stored import StoredRecord

# No setting lets a running process leave records unsigned for longer (MLAUDIT_CHECKPOINT_SECONDS).
_SILENCE: Final = timedelta(days=1)
# A gap in an open stream this fresh may be a batch in transit.
_FRESH: Final = timedelta(seconds=60)
_LOOK_AGAIN_SECONDS: Final = 0.5
_MALFORMED_SHOWN: Final = 1000


def verify_source(
    source: Source,
    keys: Mapping[str, VerifyingKey] | None,
    *,
    since: str = "",
    until: str = "",
    stream: str = "",
    checkpoints: Iterable[Checkpoint] = (),
    settle: float = 10.0,
    now: datetime | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Proves everything in a source, or reports what does not hold.

    Memory is bounded by the longest block of the sorter and the number of streams, not by the number of records.

    Args:
        source: see ``open_source`` and ``ElasticsearchSource``.
        keys: trusted verifier keys by key id; None checks everything but signatures, and the report says so.
        since: leave out older records (``parse_moment``); streams are cut there, which is not a finding.
        until: leave out records at or after this time.
        stream: check only this stream.
        checkpoints: signed checkpoints from outside the source, their signatures already checked.
        settle: seconds to wait for records of a running service that are in transit to a live source.
        now: the present, for tests.
        progress: called periodically with the number of records read so far.

    Raises:
        SourceError: the source could not be checked, or holds no record at all, which proves nothing.
        KeyFileError: ``keys`` is empty.
    """
    if keys is not None and not keys:
        raise KeyFileError(
            "expected at least one trusted verifier key (.pub), found none; "
            "copy the signing hosts' .pub files into the keys folder, or check without signatures (--unsigned)"
        )
    started = time.monotonic()
    moment = now or datetime.now(UTC)
    known = tuple(checkpoint for checkpoint in checkpoints if stream in ("", checkpoint.stream_id))
    run = _Run(source, keys, known, moment)
    selection = Selection(since, until, frozenset({stream}) if stream else None)
    run.look(selection, progress)
    deadline = started + settle
    while (
        source.live
        and not selection.is_window
        and (fresh := run.fresh_gaps())
        and time.monotonic() < deadline
    ):
        time.sleep(min(_LOOK_AGAIN_SECONDS, settle))
        run.look(Selection(streams=fresh), None)
    run.link(selection)
    findings = run.all_findings()
    if not run.records and not findings:
        unsealed = run.remarks.unsealed
        if unsealed:
            raise SourceError(
                f"{source.name}: expected sealed audit records, found {unsealed} unsealed ones that the collector "
                "made; that proves nothing"
            )
        about = f"stream {stream}" if stream else "any audit record"
        raise SourceError(
            f"{source.name}: expected {about}, found none in what was asked for; that proves nothing"
        )
    return Report(
        source=source.name,
        streams=[run.summaries[stream_id] for stream_id in sorted(run.summaries)],
        findings=findings,
        suppressed=run.suppressed,
        records=run.records,
        not_checked=run.remarks.not_checked,
        unsealed=run.remarks.unsealed,
        keys=sorted(key.encode() for key in (keys or {}).values()),
        signatures=keys is not None,
        window={
            name: text for name, text in (("since", since), ("until", until), ("stream", stream)) if text
        },
        seconds=time.monotonic() - started,
    )


class _Run:
    def __init__(
        self,
        source: Source,
        keys: Mapping[str, VerifyingKey] | None,
        known: tuple[Checkpoint, ...],
        now: datetime,
    ) -> None:
        self._source = source
        self._keys = keys
        self._known = known
        self._fresh_after = from_datetime(now - _FRESH)
        self._silent_before = from_datetime(now - _SILENCE)
        self.remarks = Remarks()
        self.summaries: dict[str, StreamSummary] = {}
        self._findings: dict[str, list[Finding]] = {}
        self._nowhere: list[Finding] = []
        self._linked: list[Finding] = []
        self._suppressed: dict[str, int] = {}
        self._named: dict[str, dict[int, str]] = {}

    @property
    def records(self) -> int:
        return sum(summary.records for summary in self.summaries.values()) + len(self._nowhere)

    @property
    def suppressed(self) -> int:
        return sum(self._suppressed.values()) + self.remarks.suppressed

    def look(self, selection: Selection, progress: Callable[[int], None] | None) -> None:
        """Reads and proves the streams of a selection; a second pass replaces the first."""
        sorter = RecordSorter()
        remarks = Remarks()
        contested: list[StoredRecord] = []
        for count, record in enumerate(self._source.read(selection, remarks), 1):
            if record.facts is not None:
                self._note_link(record)
            if record.contested is None:
                sorter.add(record)
            else:
                contested.append(record)
            if progress is not None and count % 10_000 == 0:
                progress(count)
        if contested:
            settle_contested(contested, sorter)
            sorter.extend(contested)
        if selection.streams is None or not self.summaries:
            self.remarks = remarks
        cuts = _cuts(sorter, selection) if selection.is_window else None
        if cuts is not None:
            self.remarks.not_checked.append(
                f"{len(cuts)} streams were checked only from their first to their last record in the window; "
                "whether they begin and end rightly, and whether whole streams are missing, was not"
            )
        for stream_id, group in groupby(sorter, key=lambda record: record.stream_id):
            if not selection.takes_stream(stream_id):
                continue
            if not stream_id:
                self._outside(group)
            elif cuts is None:
                self._prove(stream_id, group, window=False)
            elif stream_id in cuts:
                first, last = cuts[stream_id]
                inside = (record for record in group if first <= record.sequence <= last)
                self._prove(stream_id, inside, window=True)

    def fresh_gaps(self) -> frozenset[str]:
        """Streams written or signed just now in which records seem to be missing."""
        signed = {
            checkpoint.stream_id
            for checkpoint in self._known
            if checkpoint.time >= self._fresh_after
            and checkpoint.sequence > self._last_of(checkpoint.stream_id)
        }
        return frozenset(signed).union(
            stream_id
            for stream_id, summary in self.summaries.items()
            if summary.state == "open"
            and summary.last_time >= self._fresh_after
            and any(
                f.code in (codes.CHAIN_GAP, codes.STREAM_START_MISSING) for f in self._findings[stream_id]
            )
        )

    def _last_of(self, stream_id: str) -> int:
        summary = self.summaries.get(stream_id)
        return summary.last if summary else 0

    def link(self, selection: Selection) -> None:
        """Compares the streams with each other."""
        found = [finding for findings in self._findings.values() for finding in findings]
        judges_absence = self._source.complete and not selection.is_window and selection.streams is None
        links = Links(
            self.summaries, found, self.remarks, judges_absence=judges_absence, fresh_after=self._fresh_after
        )
        links.judge(self._known)
        self._linked = found

    def all_findings(self) -> list[Finding]:
        """All findings: first about the source, then stream by stream."""
        ordered = sorted(self._linked, key=lambda found: (found.stream_id, found.sequence, found.code))
        return [*self.remarks.findings, *self._nowhere, *ordered]

    def _prove(self, stream_id: str, records: Iterator[StoredRecord], *, window: bool) -> None:
        trimmed = self.remarks.trimmed.get(stream_id, 0)
        if trimmed:
            self.remarks.not_checked.append(
                f"stream {stream_id}: records 1 to {trimmed} are delivered and gone from here"
            )
        scope = Scope(window or trimmed > 0, window, self._silent_before)
        known = [checkpoint for checkpoint in self._known if checkpoint.stream_id == stream_id]
        proof = StreamProof(stream_id, self._keys, scope, known, self._named.get(stream_id))
        feed = proof.feed
        for record in records:
            feed(record)
        summary, findings = proof.finish()
        if summary.records:
            self.summaries[stream_id] = summary
            self._findings[stream_id] = findings
            self._suppressed[stream_id] = proof.suppressed

    def _note_link(self, record: StoredRecord) -> None:
        """Remembers which record of which stream another stream continues, before that stream is proven."""
        previous, sequence, linked = (
            (record.facts or {}).get(f"audit.stream.previous.{name}") for name in ("id", "sequence", "hash")
        )
        if isinstance(previous, str) and isinstance(sequence, int) and isinstance(linked, str):
            self._named.setdefault(previous, {}).setdefault(sequence, linked)

    def _outside(self, records: Iterator[StoredRecord]) -> None:
        """Records that name no stream: no chain can prove them."""
        self._nowhere = []
        for record in records:
            if len(self._nowhere) >= _MALFORMED_SHOWN:
                self._suppressed[""] = self._suppressed.get("", 0) + 1
                continue
            self._nowhere.append(
                Finding(
                    codes.ORIGINAL_MALFORMED,
                    f"the record belongs to no stream: {record.fault or 'no place'}",
                    record_id=record.record_id or record.claims.document_id,
                    found=record.hash,
                    where=record.claims.where,
                )
            )


def _cuts(records: Iterable[StoredRecord], selection: Selection) -> dict[str, tuple[int, int]]:
    """By stream, the sequences of its first and its last record in the window."""
    cuts: dict[str, tuple[int, int]] = {}
    for record in records:
        if selection.takes_time(record.time):
            first, _ = cuts.get(record.stream_id, (record.sequence, 0))
            cuts[record.stream_id] = (first, record.sequence)
    return cuts
