"""Measures the coverage of what a person names: what signed checkpoints promise against what the cluster holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlaudit.errors import SourceError
from mlaudit.settings import Settings
from mlaudit.verify.export import newest_checkpoints
from mlaudit.verify.repair.coverage import REASONS, Local, StreamCoverage, check_promises, cover, promised
from mlaudit.verify.sources.open_source import archive_files, local_sources, open_cluster
from mlaudit.verify.sources.source import parse_moment
from mlaudit.verify.trust import known_checkpoints, trusted_keys

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mlaudit.verify.inputs import Cluster, Trust, Window
    from mlaudit.verify.sources.cluster_source import ElasticsearchSource


@dataclass(frozen=True, slots=True)
class Coverage:
    """The coverage of every promised stream.

    Attributes:
        streams: by stream id.
        source: the cluster, still open.
        local: the places of this host that were read.
    """

    streams: dict[str, StreamCoverage]
    source: ElasticsearchSource
    local: Local

    @property
    def found(self) -> list[StreamCoverage]:
        """The streams in the order of their ids."""
        return [self.streams[name] for name in sorted(self.streams)]

    @property
    def ok(self) -> bool:
        """Whether everything promised is stored."""
        return not any(stream.absent or stream.contradicted for stream in self.found)

    @property
    def signed(self) -> int:
        """How many records are promised."""
        return sum(stream.signed for stream in self.found)

    @property
    def missing(self) -> int:
        """How many of them are not stored."""
        return sum(stream.absent.count for stream in self.found)

    def to_json(self) -> dict[str, Any]:
        """The coverage as plain values."""
        return {
            "ok": self.ok,
            "signed": self.signed,
            "stored": sum(stream.stored.count for stream in self.found),
            "missing": self.missing,
            "streams": [stream.to_dict() for stream in self.found],
            "reasons": REASONS,
        }


def measure(
    cluster: Cluster, trust: Trust, window: Window, archives: Iterable[Path], *, settle: float
) -> Coverage:
    """Compares every promised stream with the cluster, and says where missing records may be.

    Raises:
        SourceError, KeyFileError: it could not check, or nothing is promised.
    """
    if cluster.url is None:
        raise SourceError(
            "expected --elasticsearch URL: coverage compares signatures with what is stored there"
        )
    trusted = trusted_keys(trust.keys, follow_rotations=trust.follow_rotations)
    known = known_checkpoints(trust.checkpoints, trusted)
    settings = Settings.from_env()
    source = open_cluster(cluster)
    local = Local(settings.spool_dir, [file for path in archives for file in archive_files(path)])
    newest = newest_checkpoints([source, *local_sources(settings.spool_dir)], trusted, window.stream)
    if newest.conflicts:
        raise SourceError("; ".join(newest.conflicts))
    moment = parse_moment(window.since) if window.since else ""
    streams = promised(newest, known.checkpoints, window.stream, moment)
    check_promises(streams, window.stream)
    cover(streams, source, local, settle)
    return Coverage(streams, source, local)
