"""Opens the sources that a path or a command line names, and the local ones of this host."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mlaudit.deliver.spool import layout
from mlaudit.errors import SourceError
from mlaudit.verify.sources.archive_source import ArchiveSource
from mlaudit.verify.sources.spool_source import SpoolSource

if TYPE_CHECKING:
    from mlaudit.verify.inputs import Cluster
    from mlaudit.verify.sources.cluster_source import ElasticsearchSource
    from mlaudit.verify.sources.source import Source

ARCHIVE_NAME = re.compile(r"\.(jsonl|json|ndjson)(\.gz)?$")


def one_source(path: Path | None, named: Cluster) -> Source:
    """The one source that was named.

    Raises:
        SourceError: none or both were named, or the source cannot be used.
    """
    if (path is None) == (named.url is None):
        raise SourceError("expected one source: a path (spool folder, archive) or --elasticsearch URL")
    return open_source(path) if path is not None else open_cluster(named)


def open_cluster(named: Cluster) -> ElasticsearchSource:
    """The cluster that was named, with the credentials of the environment.

    Raises:
        SourceError: address, credentials or CA file cannot be used.
    """
    from mlaudit.cluster.client import credentials
    from mlaudit.verify.sources.cluster_source import ElasticsearchSource

    ca_file = named.ca_file
    if ca_file is None and (text := os.environ.get("MLAUDIT_ES_CA_FILE")):
        ca_file = Path(text)
    return ElasticsearchSource(
        str(named.url), credentials(os.environ), ca_file=ca_file, namespace=named.namespace
    )


def local_sources(spool: Path) -> list[Source]:
    """The spool and its retained records, where they exist."""
    waiting = layout.streams(spool)
    retained = layout.retained_streams(spool)
    sources: list[Source] = []
    if waiting:
        sources.append(SpoolSource(spool, waiting))
    if retained:
        sources.append(SpoolSource(layout.retained_folder(spool), retained))
    return sources


def open_source(path: Path) -> Source:
    """The source at ``path``: a spool folder, one stream of it, an archive file or a folder of those.

    Raises:
        SourceError: nothing exists there, or something else.
    """
    if path.is_file():
        return ArchiveSource([path], path)
    if not path.is_dir():
        raise SourceError(
            f"{path}: expected a spool folder, an archive file or a folder of those, found nothing"
        )
    try:
        if layout.segments(path):
            return SpoolSource(path.parent, [path])
        folders = [entry for entry in sorted(path.iterdir()) if entry.is_dir() and _is_stream(entry)]
        if folders:
            return SpoolSource(path, folders)
        files = sorted(
            entry for entry in path.rglob("*") if ARCHIVE_NAME.search(entry.name) and entry.is_file()
        )
    except OSError as error:
        raise SourceError(f"{path}: expected a readable folder, found {error.strerror}") from None
    if files:
        return ArchiveSource(files, path)
    raise SourceError(
        f"{path}: expected streams of a spool or files .jsonl, .json or .gz, found neither; an empty source proves "
        "nothing (a spool is empty once everything is delivered: verify the archive or Elasticsearch then)"
    )


def archive_files(path: Path) -> list[Path]:
    """The archive file at ``path``, or those of a folder.

    Raises:
        SourceError: there is none.
    """
    files = (
        [path]
        if path.is_file()
        else sorted(entry for entry in path.rglob("*") if ARCHIVE_NAME.search(entry.name) and entry.is_file())
    )
    if not files:
        raise SourceError(f"{path}: expected an archive file, or a folder with some, found none")
    return files


def _is_stream(folder: Path) -> bool:
    return layout.lock_file(folder).exists() or bool(layout.segments(folder))
