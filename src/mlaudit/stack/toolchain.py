"""The programs that the local stack needs: a JDK to run Elasticsearch, Maven to fetch it, Go to build the collector."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlaudit.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

JAVA_MINIMUM: Final = 21
GO_MINIMUM: Final = (1, 25)

_JVM_FOLDERS: Final = ("/usr/lib/jvm", "/usr/java", "/opt/java", "/Library/Java/JavaVirtualMachines")


@dataclass(frozen=True, slots=True)
class Missing:
    """A missing program: what was expected, what was found, how to get it."""

    name: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: {self.found}; {self.remedy}"


def find_java(usable: Callable[[Path], bool] = lambda _: True) -> Path | Missing:
    """The home of a JDK or JRE of at least version 21 that ``usable`` accepts, the oldest such first.

    Looks at ``MLAUDIT_JAVA_HOME``, ``ES_JAVA_HOME``, ``JAVA_HOME``, the ``java`` on the path, and the usual
    folders.
    """
    seen: list[str] = []
    for home in _java_homes():
        version = _java_version(home)
        if version is None:
            continue
        if version < JAVA_MINIMUM:
            seen.append(f"{home} is version {version}")
        elif not usable(home):
            seen.append(f"{home} cannot be read by the unprivileged user that runs Elasticsearch")
        else:
            return home
    return Missing(
        f"Java {JAVA_MINIMUM} or newer (runs Elasticsearch)",
        "found " + ", ".join(seen) if seen else "found none",
        f"install one, e.g. `apt-get install openjdk-{JAVA_MINIMUM}-jdk-headless`, "
        f"`brew install openjdk@{JAVA_MINIMUM}` or Eclipse Temurin, or set JAVA_HOME to it",
    )


def find_go() -> Path | Missing:
    """The ``go`` command, at least the version that the collector's locked modules ask for."""
    wanted = ".".join(map(str, GO_MINIMUM))
    remedy = f"install Go {wanted} or newer from go.dev/dl or your package manager and put it on the PATH"
    name = f"Go {wanted} or newer (builds the collector)"
    path = shutil.which("go")
    if path is None:
        return Missing(name, "no `go` on the PATH", remedy)
    version = go_version(Path(path))
    if _numbers(version) < GO_MINIMUM:
        return Missing(name, f"{path} is {version or 'broken'}", remedy)
    return Path(path)


def find_maven() -> Path | Missing:
    """The ``mvn`` command."""
    path = shutil.which("mvn")
    if path is None:
        return Missing(
            "Maven (fetches Elasticsearch)",
            "no `mvn` on the PATH",
            "install it, e.g. `apt-get install maven` or `brew install maven`",
        )
    return Path(path)


def go_version(go: Path) -> str:
    """E.g. ``go1.26.8``; empty when the command does not work."""
    answer = _output([str(go), "env", "GOVERSION"])
    return answer.strip()


def require(findings: Iterable[object]) -> None:
    """Raise one StackError that lists every Missing among ``findings``."""
    missing = [str(finding) for finding in findings if isinstance(finding, Missing)]
    if missing:
        raise StackError(
            "the local stack cannot be prepared, something is missing:"
            + "".join(f"\n  - {line}" for line in missing)
        )


def _java_homes() -> list[Path]:
    homes = [
        Path(value)
        for name in ("MLAUDIT_JAVA_HOME", "ES_JAVA_HOME", "JAVA_HOME")
        if (value := os.environ.get(name))
    ]
    if java := shutil.which("java"):
        homes.append(Path(java).resolve().parent.parent)
    for folder in _JVM_FOLDERS:
        for pattern in ("*", "*/Contents/Home"):
            homes += sorted(home for home in Path(folder).glob(pattern) if home.is_dir())
    return list(dict.fromkeys(home for home in homes if (home / "bin/java").is_file()))


def _java_version(home: Path) -> int | None:
    """The major version, from the ``release`` file when there is one (no JVM start)."""
    release = home / "release"
    text = release.read_text(errors="replace") if release.is_file() else ""
    match = re.search(r'^JAVA_VERSION="(\d+)', text, re.MULTILINE)
    if match is None:
        match = re.search(r'version "(\d+)', _output([str(home / "bin/java"), "-version"]))
    return int(match[1]) if match else None


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"go(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (0,)


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr
