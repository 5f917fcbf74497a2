"""Links between streams: restarts, forks, and checkpoints from outside the source."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mlaudit.verify.proof import finding_codes as codes
from mlaudit.verify.proof.finding_codes import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlaudit.seal.checkpoint import Checkpoint
    from mlaudit.verify.proof.summary import StreamSummary
    from mlaudit.verify.sources.source import Remarks

_PREVIOUS = "audit.stream.previous."
_PARENT = "audit.stream.parent.id"
_ADOPTED_BY = "audit.stream.adopted_by"


class Links:
    """Compares the streams that were checked.

    ``judges_absence`` is False where a stream may be missing for a good reason: in a window, with one stream
    selected, in a spool. ``fresh_after`` (RFC 3339): a successor younger than this may still be closing its
    predecessor.
    """

    def __init__(
        self,
        streams: Mapping[str, StreamSummary],
        findings: list[Finding],
        remarks: Remarks,
        *,
        judges_absence: bool,
        fresh_after: str,
    ) -> None:
        self._streams = streams
        self._findings = findings
        self._not_checked = remarks.not_checked
        self._judges_absence = judges_absence
        self._fresh_after = fresh_after
        self._absent: set[str] = set()

    def judge(self, known: Iterable[Checkpoint] = ()) -> None:
        """Adds its results to the findings."""
        for stream_id, summary in sorted(self._streams.items()):
            previous = summary.facts.get(_PREVIOUS + "id")
            if isinstance(previous, str):
                self._judge_previous(stream_id, summary, previous)
            parent = summary.facts.get(_PARENT)
            if isinstance(parent, str) and parent not in self._streams:
                self._is_absent(parent, f"stream {stream_id} names it as its parent")
            adopter = summary.end_facts.get(_ADOPTED_BY)
            if isinstance(adopter, str) and adopter not in self._streams:
                fresh = summary.last_time >= self._fresh_after
                self._is_absent(adopter, f"stream {stream_id} was adopted by it", fresh=fresh)
        for checkpoint in known:
            if checkpoint.stream_id not in self._streams:
                self._is_absent(
                    checkpoint.stream_id, f"a signed checkpoint names its record {checkpoint.sequence}"
                )

    def _judge_previous(self, stream_id: str, summary: StreamSummary, previous_id: str) -> None:
        previous = self._streams.get(previous_id)
        if previous is None:
            self._is_absent(previous_id, f"stream {stream_id} continues it")
            return
        if self._touched(stream_id, 1) or previous.cut_after:
            return
        sequence = summary.facts.get(_PREVIOUS + "sequence")
        sequence = sequence if isinstance(sequence, int) else 0
        if sequence > previous.last:
            if not self._tail_is_known_missing(previous_id):
                text = (
                    f"stream {stream_id} continues record {sequence}, but the stream stops at {previous.last}"
                )
                self._findings.append(
                    Finding(codes.STREAM_TAIL_MISSING, text, previous_id, previous.last + 1, sequence)
                )
            return
        self._judge_hash(summary, previous, sequence, str(summary.facts.get(_PREVIOUS + "hash", "")))
        self._judge_end(stream_id, summary, previous)

    def _judge_hash(
        self, summary: StreamSummary, previous: StreamSummary, sequence: int, linked: str
    ) -> None:
        seen = previous.tail.get(sequence)
        if seen is None or seen == linked:
            return
        if sequence <= previous.last_signed and not summary.last_signed:
            text = f"the link does not fit record {sequence} of stream {previous.stream_id}, which is signed"
            self._findings.append(
                Finding(codes.CHAIN_BROKEN, text, summary.stream_id, 1, 1, expected=seen, found=linked)
            )
            return
        text = f"the original was changed: stream {summary.stream_id} continues another hash"
        for index, found in enumerate(self._findings):
            if found.stream_id == previous.stream_id and found.sequence == sequence:
                if found.code == codes.HASH_MISMATCH and found.found == linked:
                    self._findings[index] = replace(
                        found, code=codes.ORIGINAL_CHANGED, text=text, expected=linked, found=seen
                    )
                return
        if not self._touched(previous.stream_id, sequence) and not self._is_disowned(previous, sequence):
            is_last = sequence == previous.last
            self._findings.append(
                Finding(
                    codes.ORIGINAL_CHANGED,
                    text,
                    previous.stream_id,
                    sequence,
                    sequence,
                    previous.last_id if is_last else "",
                    linked,
                    seen,
                    where=previous.last_where if is_last else "",
                )
            )

    def _is_disowned(self, stream: StreamSummary, sequence: int) -> bool:
        """Whether a finding about the signatures of a stream explains its different unsigned end."""
        return sequence > stream.last_signed and any(
            found.stream_id == stream.stream_id and found.code.startswith("checkpoint.")
            for found in self._findings
        )

    def _judge_end(self, stream_id: str, summary: StreamSummary, previous: StreamSummary) -> None:
        if previous.state != "open" or self._touched(previous.stream_id, previous.last):
            return
        if self._tail_is_known_missing(previous.stream_id):
            return  # an outside checkpoint has reported it
        if previous.last_time >= summary.first_time:
            return  # both ran at the same time: another worker of the service, not a restart
        if summary.first_time >= self._fresh_after:
            self._not_checked.append(
                f"stream {previous.stream_id} has no end yet; stream {stream_id}, which continues it, is just starting"
            )
            return
        text = f"stream {stream_id} continues it, but it was neither ended nor abandoned"
        if not any(
            f.code == codes.STREAM_NOT_ENDED and f.stream_id == previous.stream_id for f in self._findings
        ):
            self._findings.append(
                Finding(codes.STREAM_NOT_ENDED, text, previous.stream_id, previous.last, previous.last)
            )

    def _is_absent(self, stream_id: str, why: str, *, fresh: bool = False) -> None:
        if stream_id in self._absent:
            return
        self._absent.add(stream_id)
        if self._judges_absence and not fresh:
            self._findings.append(Finding(codes.STREAM_MISSING, f"the stream is absent: {why}", stream_id))
        else:
            self._not_checked.append(f"stream {stream_id}: {why}")

    def _touched(self, stream_id: str, sequence: int) -> bool:
        return any(
            found.severity == "finding"
            and found.stream_id == stream_id
            and found.sequence <= sequence <= max(found.through, found.sequence)
            for found in self._findings
        )

    def _tail_is_known_missing(self, stream_id: str) -> bool:
        return any(f.code == codes.STREAM_TAIL_MISSING and f.stream_id == stream_id for f in self._findings)
