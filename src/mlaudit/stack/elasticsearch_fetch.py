"""Elasticsearch 9.2.0 from Maven Central, unpacked into the cache.

This is Elastic's own distribution for integration tests: the real server with fewer modules, and the only
one that a Java registry serves.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlaudit.errors import StackError
from mlaudit.stack import progress, toolchain
from mlaudit.stack.cache import cache_dir, preparing, sha256_of

if TYPE_CHECKING:
    from mlaudit.stack.cache import Report

VERSION: Final = "9.2.0"
ARTIFACT: Final = f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{VERSION}:zip"
SHA256: Final = "bf44938a0490ba2a303d39c9cb64b38963dd08c812ce93e10816e878585bcb6b"
DOWNLOAD_SECONDS: Final = 900


def elasticsearch_home(report: Report) -> Path:
    """The unpacked Elasticsearch, fetched first if the cache does not have it.

    Raises:
        StackError: Maven is missing, the download failed, or its SHA-256 is not the expected one.
    """
    home = cache_dir() / f"elasticsearch-{VERSION}"
    if home.is_dir():
        return home
    with preparing("elasticsearch", report):
        if not home.is_dir():
            toolchain.require([maven := toolchain.find_maven()])
            with tempfile.TemporaryDirectory(dir=cache_dir(), prefix="elasticsearch-") as folder:
                archive = _fetch(Path(str(maven)), Path(folder), report)
                unpack(archive, Path(folder) / "unpacked")
                (Path(folder) / "unpacked" / f"elasticsearch-{VERSION}").rename(home)
    return home


def unpack(archive: Path, target: Path) -> None:
    """Unpack a zip with its executable bits, readable by every user whatever our umask is.

    Raises:
        StackError: an entry would land outside ``target``.
    """
    with zipfile.ZipFile(archive) as bundle:
        for entry in bundle.infolist():
            path = (target / entry.filename).resolve()
            if not path.is_relative_to(target.resolve()):
                raise StackError(f"{archive} has an entry outside of its folder: {entry.filename}")
            if entry.is_dir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with bundle.open(entry) as source, path.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            path.chmod(0o755 if entry.external_attr >> 16 & 0o111 else 0o644)
    for folder in (target, *(path for path in target.rglob("*") if path.is_dir())):
        folder.chmod(0o755)


def _fetch(maven: Path, folder: Path, report: Report) -> Path:
    """Let Maven copy the artifact to ``folder``: it honours the user's mirrors, proxies and local store."""
    progress.run(
        f"fetching Elasticsearch {VERSION} (99 MB) with Maven",
        [
            str(maven),
            "--batch-mode",
            "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy",
            f"-Dartifact={ARTIFACT}",
            f"-DoutputDirectory={folder}",
        ],
        log=cache_dir() / "elasticsearch-fetch.log",
        report=report,
        environment=os.environ,
        folder=folder,
        seconds=DOWNLOAD_SECONDS,
    )
    archive = folder / f"elasticsearch-{VERSION}.zip"
    if not archive.is_file():
        raise StackError(f"Maven reported success but did not write {archive}")
    if (found := sha256_of(archive)) != SHA256:
        raise StackError(
            f"the downloaded Elasticsearch {VERSION} is not the expected file: "
            f"SHA-256 expected {SHA256}, found {found}; delete it from Maven's local repository and try again"
        )
    return archive
