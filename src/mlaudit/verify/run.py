"""Verifies what a person names: opens the source, reads keys and checkpoints, and drives the proof."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from mlaudit.verify.sources.open_source import one_source
from mlaudit.verify.sources.source import parse_moment
from mlaudit.verify.trust import known_checkpoints, trusted_keys
from mlaudit.verify.verification import verify_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlaudit.verify.inputs import Cluster, Trust, Window
    from mlaudit.verify.report import Report


def verify(
    path: Path | None,
    cluster: Cluster,
    trust: Trust,
    window: Window,
    *,
    settle: float,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Verifies the source at ``path``, or the cluster.

    Args:
        path: spool folder, archive file or folder of archive files; None for the cluster.
        cluster: the cluster, if one was named.
        trust: what signatures are checked against.
        window: which records.
        settle: seconds to wait for records of a running service that are still on their way into the cluster.
        progress: called with the number of records read so far, now and then.

    Raises:
        SourceError, KeyFileError, SettingsError: it could not check.
    """
    # Millions of small records without cycles: the collector of cycles would traverse them again and again.
    gc.set_threshold(1_000_000, 50, 50)
    trusted = None if trust.unsigned else trusted_keys(trust.keys, follow_rotations=trust.follow_rotations)
    known = known_checkpoints(trust.checkpoints, trusted, trust.tsa_ca)
    source = one_source(path, cluster)
    report = verify_source(
        source,
        trusted,
        since=parse_moment(window.since) if window.since else "",
        until=parse_moment(window.until) if window.until else "",
        stream=window.stream,
        checkpoints=known.checkpoints,
        settle=settle,
        progress=progress,
    )
    report.add_known(known.findings, known.times, known.not_checked)
    return report
