"""Finds the lineage of a model in a cluster, and proves the streams that it rests on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from mlaudit.cluster.client import credentials
from mlaudit.errors import SourceError
from mlaudit.lineage.ask.cluster_trail import ElasticsearchTrail
from mlaudit.lineage.ask.reference import choose
from mlaudit.lineage.ask.trace import trace
from mlaudit.lineage.chain.graph import build
from mlaudit.verify.sources.open_source import open_cluster
from mlaudit.verify.sources.source import parse_moment
from mlaudit.verify.trust import trusted_keys
from mlaudit.verify.verification import verify_source

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlaudit.lineage.chain.nodes import Lineage
    from mlaudit.seal.checkpoint import VerifyingKey
    from mlaudit.verify.inputs import Cluster, Window
    from mlaudit.verify.sources.source import Source

#: Streams that are proved; each is read from its beginning to its end.
VERIFIED: Final = 50
HOLDS: Final = "holds"


def find_lineage(model: str, cluster: Cluster, window: Window) -> Lineage:
    """The lineage of a model.

    Raises:
        SourceError: it could not check, or knows no such model.
    """
    if not cluster.url:
        raise SourceError("expected the address of the cluster: --elasticsearch URL, or MLAUDIT_ES_URL")
    begin = parse_moment(window.since) if window.since else ""
    end = parse_moment(window.until) if window.until else ""
    if begin and end and begin >= end:
        raise SourceError(f"expected --since before --until, found {window.since} and {window.until}")
    auth = credentials(os.environ)
    with ElasticsearchTrail(cluster.url, auth, ca_file=cluster.ca_file, namespace=cluster.namespace) as trail:
        return build(trace(trail, choose(trail, model), begin, end))


def prove_streams(found: Lineage, cluster: Cluster, keys: Path | None) -> dict[str, str]:
    """What verification says of each stream that the lineage rests on."""
    trusted = trusted_keys(keys, follow_rotations=False)
    source = open_cluster(cluster)
    proofs: dict[str, str] = {}
    try:
        for number, stream in enumerate(found.streams):
            if number >= VERIFIED:
                proofs[stream] = f"not looked at: more than {VERIFIED} streams"
                continue
            proofs[stream] = _verdict(source, trusted, stream)
    finally:
        source.close()
    return proofs


def _verdict(source: Source, trusted: Mapping[str, VerifyingKey], stream: str) -> str:
    """A stream that cannot be looked at costs its own proof, not those of the others."""
    try:
        report = verify_source(source, trusted, stream=stream)
    except SourceError as error:
        return f"could not check: {error}"
    codes = sorted({found.code for found in report.findings if found.severity == "finding"})
    return HOLDS if report.ok else f"does not hold: {', '.join(codes)}"
