"""Sends again what a person names: what is missing in a cluster, or everything that this host still has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mlaudit.deliver.send.transport import HttpTransport
from mlaudit.errors import SourceError
from mlaudit.pipeline.backend import receiver
from mlaudit.settings import Settings
from mlaudit.verify.inputs import Window
from mlaudit.verify.repair.coverage import REFUSED, UNKNOWN, Local
from mlaudit.verify.repair.measure import measure
from mlaudit.verify.repair.resend import Resend, find_anchors, wait_until_stored
from mlaudit.verify.sources.open_source import archive_files, open_cluster

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mlaudit.verify.inputs import Cluster, Trust
    from mlaudit.verify.repair.coverage import StreamCoverage
    from mlaudit.verify.repair.ranges import Ranges
    from mlaudit.verify.repair.resend import Outcome
    from mlaudit.verify.sources.cluster_source import ElasticsearchSource

#: Seconds to wait for records on their way before something counts as missing.
_SETTLE: Final = 1.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was sent again, and what is still missing.

    Attributes:
        outcome: what was sent, refused and not delivered.
        left: what is still missing, by stream and reason.
        checked: whether a cluster was named, in which the records must arrive.
        dry_run: nothing was sent.
    """

    outcome: Outcome
    left: dict[tuple[str, str], Ranges]
    checked: bool
    dry_run: bool

    @property
    def ok(self) -> bool:
        """Whether nothing is missing any more."""
        outcome = self.outcome
        return not (self.left or outcome.refused_count or outcome.undelivered or outcome.waiting)

    def to_json(self) -> dict[str, Any]:
        """The result as plain values."""
        outcome, left = self.outcome, self.left
        return {
            "ok": self.ok,
            "dry_run": self.dry_run,
            "sent": outcome.count,
            "from": dict(sorted(outcome.by_place.items())),
            "waiting_in_spool": outcome.waiting,
            "refused": outcome.refused_count,
            "refusals": outcome.refused,
            "undelivered": outcome.undelivered,
            "stored": outcome.count - _in_sent(left) if self.checked and not self.dry_run else None,
            "missing": [
                {"stream_id": name, "reason": reason, "first": first, "last": last}
                for (name, reason), ranges in sorted(left.items())
                for first, last in ranges
            ],
        }


def recover(
    cluster: Cluster,
    trust: Trust,
    archives: Iterable[Path],
    *,
    everything: bool,
    stream: str,
    dry_run: bool,
    wait: float,
) -> Recovery:
    """Sends what is missing, or everything, and waits until it is stored.

    Raises:
        SourceError, KeyFileError, SettingsError: it could not check.
    """
    archives = list(archives)
    source: ElasticsearchSource | None
    if everything:
        settings = Settings.from_env()
        source = open_cluster(cluster) if cluster.url else None
        local = Local(settings.spool_dir, [file for path in archives for file in archive_files(path)])
        streams: dict[str, StreamCoverage] = {}
    else:
        if cluster.url is None:
            raise SourceError(
                "expected --elasticsearch URL, to send what is missing there, or --all to send everything"
            )
        coverage = measure(cluster, trust, Window(stream=stream), archives, settle=_SETTLE)
        streams, source, local = coverage.streams, coverage.source, coverage.local
    outcome, left = _work(streams, source, local, stream, everything=everything, dry_run=dry_run, wait=wait)
    return Recovery(outcome, left, source is not None, dry_run)


def _work(
    streams: dict[str, StreamCoverage],
    source: ElasticsearchSource | None,
    local: Local,
    stream: str,
    *,
    everything: bool,
    dry_run: bool,
    wait: float,
) -> tuple[Outcome, dict[tuple[str, str], Ranges]]:
    """Sends, waits, and says what is still missing, by stream and reason."""
    absent = {name: found.absent for name, found in streams.items() if found.absent}
    hopeless = {name: found.missing.get(REFUSED, ()) for name, found in streams.items()}

    def wanted(name: str, sequence: int) -> bool:
        if everything:
            return not stream or name == stream
        return name in absent and sequence in absent[name] and sequence not in hopeless[name]

    left: dict[tuple[str, str], Ranges] = {}
    for name, found in streams.items():
        for reason in (REFUSED, UNKNOWN):
            if reason in found.missing:
                left[name, reason] = found.missing[reason]
    anchors = None
    if absent and source is not None:
        anchors = find_anchors({name: streams[name] for name in absent}, source)
    transport = HttpTransport(receiver(Settings.from_env()))
    try:
        outcome = Resend(transport, anchors, dry_run=dry_run).run(local.originals(wanted))
    finally:
        transport.close()
    if source is not None and not dry_run:
        for name, ranges in wait_until_stored(outcome.sent, source, wait).items():
            left[name, "not stored"] = ranges
    return outcome, left


def _in_sent(left: dict[tuple[str, str], Ranges]) -> int:
    return sum(ranges.count for (_, reason), ranges in left.items() if reason == "not stored")
