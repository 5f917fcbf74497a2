"""The sources that a command line names, and those that this host has anyway."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mlaudit.deliver import layout
from mlaudit.errors import InstallError, SourceError
from mlaudit.verify.source import Source, open_source
from mlaudit.verify.spool import SpoolSource

if TYPE_CHECKING:
    from mlaudit.verify.elasticsearch import ElasticsearchSource


def one_source(path: Path | None, url: str | None, namespace: str, ca_file: Path | None) -> Source:
    """The one source that was named.

    Raises:
        SourceError: none was named, or both were, or it cannot be used.
    """
    if (path is None) == (url is None):
        raise SourceError("expected one source: a path (spool folder, archive) or --elasticsearch URL")
    return open_source(path) if path is not None else cluster(str(url), namespace, ca_file)


def cluster(url: str, namespace: str, ca_file: Path | None) -> ElasticsearchSource:
    """The cluster at ``url``, with the credentials of the environment.

    Raises:
        SourceError: address, credentials or CA file cannot be used.
    """
    from mlaudit.install.client import credentials
    from mlaudit.verify.elasticsearch import ElasticsearchSource

    if ca_file is None and (text := os.environ.get("MLAUDIT_ES_CA_FILE")):
        ca_file = Path(text)
    try:
        return ElasticsearchSource(url, credentials(os.environ), ca_file=ca_file, namespace=namespace)
    except InstallError as error:
        raise SourceError(str(error)) from None


def local_sources(spool: Path) -> list[Source]:
    """The spool and its window of delivered records, as far as there are any."""
    waiting = layout.streams(spool)
    retained = layout.retained_streams(spool)
    sources: list[Source] = []
    if waiting:
        sources.append(SpoolSource(spool, waiting))
    if retained:
        sources.append(SpoolSource(layout.retained_folder(spool), retained))
    return sources
