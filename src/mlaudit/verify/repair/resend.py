"""Resends what the store lacks, byte for byte, after a check that it is genuine."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mlaudit._version import __version__
from mlaudit.deliver.send.answer import Answer, Verdict
from mlaudit.deliver.send.otlp import Envelope
from mlaudit.safety.backoff import Backoff
from mlaudit.verify.repair.originals import SPOOL
from mlaudit.verify.repair.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mlaudit.deliver.send.transport import Transport
    from mlaudit.verify.repair.coverage import StreamCoverage
    from mlaudit.verify.repair.originals import Original
    from mlaudit.verify.sources.cluster_source import ElasticsearchSource

_BATCH_BYTES: Final = 1 << 20
_LOOK_AGAIN_SECONDS: Final = 0.5
_TRIES: Final = 6
_FIRST_PAUSE: Final = 0.25
_LAST_PAUSE: Final = 10.0
_REFUSALS_KEPT: Final = 1000


@dataclass(slots=True)
class Anchors:
    """Trusted hashes around missing records, by stream and sequence.

    From the stored neighbours of each gap, and from signatures.
    """

    hashes: dict[tuple[str, int], str] = field(default_factory=dict)
    # The hash of the record before a gap, which the first record of the gap names as its previous.
    before: dict[tuple[str, int], str] = field(default_factory=dict)

    def fault(self, original: Original) -> str:
        """Why a record cannot be genuine; empty when nothing contradicts it."""
        place = (original.stream_id, original.sequence)
        known = self.hashes.get(place)
        if known and known != original.hash:
            return f"its hash is {original.hash}, and what is stored or signed behind it says {known}"
        before = self.before.get(place)
        if before and before != original.previous_hash:
            return f"it follows on {original.previous_hash}, and the record before it is {before}"
        return ""


@dataclass(slots=True)
class Outcome:
    """The result of a resend.

    Attributes:
        sent: by stream, what the collector acknowledged (with ``dry_run``: what would be sent).
        by_place: number of those by place.
        waiting: records that the spool has not delivered yet, which is its sender's work.
        refused: sentences about records that were not sent because they do not fit.
        refused_count: how many those are.
        undelivered: sentences about batches that the collector did not take.
    """

    sent: dict[str, Ranges] = field(default_factory=dict)
    by_place: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    refused: list[str] = field(default_factory=list)
    refused_count: int = 0
    undelivered: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of records sent."""
        return sum(ranges.count for ranges in self.sent.values())


def find_anchors(streams: Mapping[str, StreamCoverage], source: ElasticsearchSource) -> Anchors:
    """Looks up the neighbours of every gap.

    Raises:
        SourceError: the cluster could not be checked.
    """
    anchors = Anchors()
    behind: set[tuple[str, int]] = set()
    ahead: set[tuple[str, int]] = set()
    for name, found in streams.items():
        anchors.hashes[name, found.signed] = found.hash
        for first, last in found.absent:
            ahead.add((name, first - 1))
            behind.add((name, last + 1))
    for place in source.places({name for name, _ in ahead}):
        at = (place.stream_id, place.sequence)
        if at in behind and place.previous_hash:
            anchors.hashes.setdefault((place.stream_id, place.sequence - 1), place.previous_hash)
        if at in ahead and place.hash:
            anchors.before.setdefault((place.stream_id, place.sequence + 1), place.hash)
    return anchors


class Resend:
    """One run. Holds a batch of records at a time."""

    def __init__(
        self, transport: Transport, anchors: Anchors | None = None, *, dry_run: bool = False
    ) -> None:
        self.outcome = Outcome()
        self._transport = transport
        self._anchors = anchors or Anchors()
        self._dry_run = dry_run
        self._batch: list[Original] = []
        self._bytes = 0
        self._taken: dict[str, Ranges] = {}
        self._last: tuple[str, int, str] = ("", 0, "")
        self._away = False

    def run(self, originals: Iterable[Original]) -> Outcome:
        """Sends what fits; ends early when the collector accepts nothing."""
        for original in originals:
            if self._away:
                break
            if original.sequence in self._taken.get(original.stream_id, ()):
                continue  # it is in more than one place
            if original.place == SPOOL:
                self.outcome.waiting += 1
                continue
            fault = original.fault or self._anchors.fault(original) or self._unlinked(original)
            if fault:
                self._refuse(original, fault)
                continue
            self._take(original)
        if not self._away:
            self._flush()
        return self.outcome

    def _unlinked(self, original: Original) -> str:
        """Whether the record does not continue the one sent right before it."""
        stream_id, sequence, digest = self._last
        follows = (original.stream_id, original.sequence) == (stream_id, sequence + 1)
        if follows and original.previous_hash != digest:
            return f"it follows on {original.previous_hash}, and record {sequence} before it is {digest}"
        return ""

    def _take(self, original: Original) -> None:
        if self._batch and (
            original.resource != self._batch[0].resource or self._bytes + len(original.payload) > _BATCH_BYTES
        ):
            self._flush()
        self._batch.append(original)
        self._bytes += len(original.payload)
        self._taken.setdefault(original.stream_id, Ranges()).add(original.sequence)
        self._last = (original.stream_id, original.sequence, original.hash)

    def _refuse(self, original: Original, fault: str) -> None:
        self.outcome.refused_count += 1
        if len(self.outcome.refused) < _REFUSALS_KEPT:
            self.outcome.refused.append(
                f"record {original.sequence} of stream {original.stream_id} in {original.where}: {fault}"
            )

    def _flush(self) -> None:
        batch, self._batch, self._bytes = self._batch, [], 0
        if batch and not self._away:
            self._send(batch)

    def _send(self, batch: list[Original]) -> None:
        answer = Answer(Verdict.ACKNOWLEDGED) if self._dry_run else self._post(batch)
        if answer.verdict is Verdict.ACKNOWLEDGED:
            for original in batch:
                self.outcome.sent.setdefault(original.stream_id, Ranges()).add(original.sequence)
                self.outcome.by_place[original.place] += 1
        elif answer.verdict is Verdict.DIVIDE and len(batch) > 1:
            middle = len(batch) // 2
            self._send(batch[:middle])
            self._send(batch[middle:])
        else:
            first, last = batch[0], batch[-1]
            about = f"{len(batch)} records, {first.stream_id} {first.sequence} to {last.stream_id} {last.sequence}"
            self.outcome.undelivered.append(f"{about}: {answer.reason}")
            self._away = answer.verdict is not Verdict.DIVIDE

    def _post(self, batch: list[Original]) -> Answer:
        """Posts a batch; retries for a while on a server error."""
        request = Envelope(dict(batch[0].resource), "mlaudit", __version__).request(
            original.payload for original in batch
        )
        backoff = Backoff(_FIRST_PAUSE, _LAST_PAUSE)
        for _ in range(_TRIES):
            answer = self._transport.post(request)
            if answer.verdict in (Verdict.ACKNOWLEDGED, Verdict.DIVIDE):
                return answer
            if answer.verdict is Verdict.UNAUTHENTICATED:
                self._transport.renew()
            pause = backoff.pause()
            time.sleep(min(answer.retry_after or pause, _LAST_PAUSE))
        return answer


def wait_until_stored(
    sent: Mapping[str, Ranges],
    source: ElasticsearchSource,
    seconds: float,
    still: Callable[[int], None] = lambda count: None,
) -> dict[str, Ranges]:
    """Waits until everything that was sent is stored; returns what is not, by stream.

    Args:
        sent: by stream.
        source: the cluster.
        seconds: how long to wait.
        still: called with the number of missing records after each check.

    Raises:
        SourceError: the cluster could not be checked.
    """
    deadline = time.monotonic() + seconds
    left = {name: ranges for name, ranges in sent.items() if ranges}
    while left:
        stored: dict[str, Ranges] = {name: Ranges() for name in left}
        for place in source.places(left):
            if place.stream_id in stored and place.sequence in left[place.stream_id]:
                stored[place.stream_id].add(place.sequence)
        left = {
            name: rest
            for name, ranges in left.items()
            if (rest := Ranges(gap for first, last in ranges for gap in stored[name].gaps(first, last)))
        }
        still(sum(ranges.count for ranges in left.values()))
        if time.monotonic() >= deadline:
            break
        if left:
            time.sleep(_LOOK_AGAIN_SECONDS)
    return left
