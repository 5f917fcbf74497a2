"""The software that a service runs on: interpreter, platform, packages, revision; compared with its last start."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.origin import originate
from mlaudit.capture.remembered import Remembered
from mlaudit.event import AuditEvent, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlaudit.pipeline import Pipeline

KIND: Final = "audit.environment.changed"
COMPONENT: Final = "capture.environment"
MAX_CHANGES: Final = 200
# Variables that change what code runs or what is recorded; their values are kept as keyed pseudonyms only.
_RELEVANT: Final = ("MLAUDIT_", "OTEL_", "PYTHON", "LD_PRELOAD", "LD_LIBRARY_PATH", "CUDA_", "OMP_", "MKL_")
# New at every deployment by their purpose.
_VOLATILE: Final = ("MLAUDIT_CHANGE_TICKET", "MLAUDIT_CHANGE_APPROVER", "MLAUDIT_ENABLED")
_DISTRIBUTION: Final = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)(?:-py[\d.]+)?\.(?:dist|egg)-info")
_ABSENT: Final = "(none)"


def software(paths: Iterable[str] | None = None) -> dict[str, str]:
    """Name → version of everything that runs the service's code.

    Packages are read from the names of their metadata folders, which takes a millisecond; opening every metadata
    file would take a hundred.
    """
    found = {
        "python": platform.python_version(),
        "python implementation": platform.python_implementation(),
        "python executable": sys.executable or "",
        "platform": f"{platform.system()} {platform.machine()}".strip(),
        "kernel": platform.release(),
    }
    revision = vcs_revision(Path.cwd())
    if revision:
        found["revision"] = revision
    return found | _distributions(sys.path if paths is None else paths)


def digest(fingerprint: Mapping[str, str]) -> str:
    """SHA-256 (hex) of the canonical JSON of ``software()``."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs, as ``name old -> new``, sorted by name."""
    return [
        f"{name} {before.get(name, _ABSENT)} -> {now.get(name, _ABSENT)}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]


def compare_with_last_start(pipeline: Pipeline, now: dict[str, str]) -> None:
    """Records ``audit.environment.changed`` when ``now`` (from ``software()``) is not what ran last time.

    Raises:
        OSError, SpoolUnavailableError, ValueError: the memory of the last start cannot be used.
    """
    variables = _variables(pipeline)
    settings = pipeline.settings
    memory = Remembered.of_service(settings.state_dir, settings.service_name, "environment")
    with memory.exclusively() as content:
        before = content.get("software")
        found: list[str] = []
        if isinstance(before, dict):
            found = changes(before, now)
            # Of variables only the names are told.
            earlier = content.get("variables") or {}
            found += [
                f"variable {name} {_change(name in earlier, name in variables)}"
                for name in sorted(earlier.keys() | variables.keys())
                if earlier.get(name) != variables.get(name)
            ]
        if found:
            shown = found[:MAX_CHANGES]
            if len(found) > MAX_CHANGES:
                shown.append(f"and {len(found) - MAX_CHANGES} more")
            pipeline.emit(_event(pipeline, digest(now), shown))
        content["software"] = now
        content["variables"] = variables


def vcs_revision(start: Path) -> str:
    """The commit that ``start`` or a folder above it has checked out, read from ``.git``; "" when there is none."""
    try:
        for folder in (start, *start.parents):
            git = folder / ".git"
            if git.is_file():  # a worktree
                git = (folder / git.read_text(encoding="utf-8").partition("gitdir:")[2].strip()).resolve()
            head = git / "HEAD"
            if head.is_file():
                return _resolve(git, head.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        return ""
    return ""


def _resolve(git: Path, head: str) -> str:
    if not head.startswith("ref:"):
        return head[:64]
    reference = head[4:].strip()
    common = git
    if (git / "commondir").is_file():
        common = (git / (git / "commondir").read_text(encoding="utf-8").strip()).resolve()
    for base in (git, common):
        loose = base / reference
        if loose.is_file():
            return loose.read_text(encoding="utf-8").strip()[:64]
    packed = common / "packed-refs"
    if packed.is_file():
        for line in packed.read_text(encoding="utf-8").splitlines():
            commit, _, name = line.partition(" ")
            if name == reference:
                return commit[:64]
    return ""


def _distributions(paths: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in paths:
        try:
            entries = os.listdir(path or ".")  # noqa: PTH208 - names are all that is needed
        except OSError:
            continue
        for entry in entries:
            match = _DISTRIBUTION.fullmatch(entry) if entry.endswith("-info") else None
            if match is not None:
                # Earlier places win, as in an import.
                found.setdefault(match["name"].lower().replace("_", "-"), match["version"])
    return found


def _variables(pipeline: Pipeline) -> dict[str, str]:
    pseudonym = pipeline.policy.pseudonyms.of
    return {
        name: pseudonym(value)
        for name, value in sorted(os.environ.items())
        if name.startswith(_RELEVANT) and name not in _VOLATILE
    }


def _change(was: bool, there: bool) -> str:
    if was and there:
        return "changed"
    return "added" if there else "removed"


def _event(pipeline: Pipeline, code: str, found: list[str]) -> AuditEvent:
    settings = pipeline.settings
    fields: dict[str, Any] = {"audit.environment.digest": code, "audit.environment.changes": found}
    control = {"ml.change.ticket": settings.change_ticket, "ml.change.approver": settings.change_approver}
    fields |= {name: value for name, value in control.items() if value}
    return originate(AuditEvent(KIND, target=Target("environment", settings.service_name), fields=fields))
