"""Builds the collector of collector-config/builder.yaml with ocb, from locked modules, into the cache."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlaudit.install.packaged import shipped
from mlaudit.stack import progress, toolchain
from mlaudit.stack.cache import cache_dir, preparing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlaudit.stack.cache import Report

BINARY: Final = "otelcol-mlaudit"
BUILD_SECONDS: Final = 1800

_SOURCES: Final = ("builder.yaml", "go.mod", "go.sum")


def config_dir() -> Path:
    """The ``collector-config`` folder.

    Raises:
        InstallError: it did not come with the package.
    """
    return shipped("collector-config")


def collector_binary(report: Report) -> Path:
    """The built collector; built first if the cache does not have it for these sources and this Go.

    Raises:
        StackError: Go is missing or the build failed.
    """
    toolchain.require([go := toolchain.find_go()])
    key = build_key(config_dir(), toolchain.go_version(Path(str(go))))
    target = cache_dir() / "collector" / key
    if not (target / BINARY).is_file():
        with preparing("collector", report):
            if not (target / BINARY).is_file():
                _build(Path(str(go)), target, report)
    return target / BINARY


def build_key(sources: Path, go_version: str) -> str:
    """A hash of everything that determines a build."""
    digest = hashlib.sha256(go_version.encode())
    for name in _SOURCES:
        digest.update(b"\0" + (sources / name).read_bytes())
    return digest.hexdigest()[:16]


def collector_version(sources: Path) -> str:
    """The version of the collector family, e.g. ``0.152.0``, as builder.yaml says it."""
    match = re.search(r"^  version: (\S+)$", (sources / "builder.yaml").read_text(), re.MULTILINE)
    return match[1] if match else ""


def build_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without what could weaken the lock, and with what enforces it."""
    kept = {
        name: value
        for name, value in environment.items()
        if name not in ("GOINSECURE", "GOPRIVATE", "GOSUMDB")
    }
    # go.sum is the lock; the checksum database stays on for anything it does not name.
    # GONOSUMDB is set, not removed: a value stored by `go env -w` would count otherwise.
    return kept | {
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly -buildvcs=false",
        "GONOSUMDB": "none.invalid",
        "GOWORK": "off",
    }


def _build(go: Path, target: Path, report: Report) -> None:
    sources = config_dir()
    version = collector_version(sources)
    environment = build_environment(os.environ)
    log = cache_dir() / "collector-build.log"
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir(), prefix="collector-") as name:
        folder = Path(name)
        steps: list[tuple[str, list[str], dict[str, str], Path]] = [
            (
                f"installing the collector builder {version}",
                [str(go), "install", f"go.opentelemetry.io/collector/cmd/builder@v{version}"],
                # A program that is installed by version has its own go.mod.
                {"GOBIN": str(folder / "bin"), "GOFLAGS": "-buildvcs=false"},
                folder,
            ),
            (
                "generating the collector's sources",
                [
                    str(folder / "bin/builder"),
                    "--config",
                    str(sources / "builder.yaml"),
                    "--skip-get-modules",
                    "--skip-compilation",
                ],
                {},
                folder,
            ),
            (
                "building the collector (about 5 minutes the first time)",
                [str(go), "build", "-trimpath", "-ldflags=-s -w", "-o", BINARY, "."],
                {},
                folder / "dist",
            ),
        ]
        for label, command, extra, where in steps:
            if where != folder:
                for name in ("go.mod", "go.sum"):
                    shutil.copyfile(sources / name, where / name)
            progress.run(
                label,
                command,
                log=log,
                report=report,
                environment=environment | extra,
                folder=where,
                seconds=BUILD_SECONDS,
            )
        target.mkdir(parents=True, exist_ok=True)
        for part in (target.parent, target):
            part.chmod(0o755)
        built = folder / "dist" / BINARY
        built.chmod(0o755)
        built.rename(target / BINARY)
