"""The software that a service runs on: interpreter, platform, packages, revision; compared with its last start."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mlaudit.capture.origin import originate
from mlaudit.capture.process.container import container_fields
from mlaudit.catalog.names import ENVIRONMENT_CHANGED
from mlaudit.event import AuditEvent, Target
from mlaudit.pipeline.shared_file import Remembered
from mlaudit.settings.variables import resource_attributes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.environment"
MAX_CHANGES: Final = 200
# Variables that change what code runs or what is recorded; their values are kept as keyed pseudonyms only.
_RELEVANT: Final = ("MLAUDIT_", "OTEL_", "PYTHON", "LD_PRELOAD", "LD_LIBRARY_PATH", "CUDA_", "OMP_", "MKL_")
# New at every deployment by their purpose.
_VOLATILE: Final = ("MLAUDIT_CHANGE_TICKET", "MLAUDIT_CHANGE_APPROVER", "MLAUDIT_ENABLED")
_DISTRIBUTION: Final = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)(?:-py[\d.]+)?\.(?:dist|egg)-info")
_ABSENT: Final = "(none)"
REVISION: Final = "revision"
# Variables in which builds store their commit: Jenkins, GitHub, GitLab, Bitbucket, CircleCI, Azure, Buildkite,
# Travis, Drone, Google, AWS, Heroku, Render, Railway, and common names in images.
_BUILT_FROM: Final = (
    "GIT_COMMIT",
    "GITHUB_SHA",
    "CI_COMMIT_SHA",
    "BITBUCKET_COMMIT",
    "CIRCLE_SHA1",
    "BUILD_SOURCEVERSION",
    "BUILDKITE_COMMIT",
    "TRAVIS_COMMIT",
    "DRONE_COMMIT_SHA",
    "COMMIT_SHA",
    "CODEBUILD_RESOLVED_SOURCE_VERSION",
    "HEROKU_SLUG_COMMIT",
    "RENDER_GIT_COMMIT",
    "RAILWAY_GIT_COMMIT_SHA",
    "GIT_SHA",
    "SOURCE_COMMIT",
)
_COMMIT: Final = re.compile(r"[0-9a-fA-F]{7,64}")


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
    container = container_fields(os.environ)
    described = {
        REVISION: code_revision(os.environ),
        "image": container.get("container.image.name", ""),
        "image tag": " ".join(container.get("container.image.tag", ())),
        "image digest": " ".join(container.get("container.image.hash.all", ())),
    }
    found |= {name: value for name, value in described.items() if value}
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


class Difference(NamedTuple):
    """What one fingerprint of software has and another has not; each sorted by name.

    Attributes:
        added, removed: name → version.
        updated: name → old and new version.
    """

    added: dict[str, str]
    removed: dict[str, str]
    updated: dict[str, tuple[str, str]]


def difference(before: Mapping[str, str], now: Mapping[str, str]) -> Difference:
    """What must be added to, removed from and updated in ``before`` to make it ``now``."""
    both = sorted(before.keys() & now.keys())
    return Difference(
        {name: now[name] for name in sorted(now.keys() - before.keys())},
        {name: before[name] for name in sorted(before.keys() - now.keys())},
        {name: (before[name], now[name]) for name in both if before[name] != now[name]},
    )


def compare_with_last_start(pipeline: Pipeline, now: dict[str, str]) -> None:
    """Records ``audit.environment.changed`` when ``now`` (from ``software()``) differs from the last start.

    Raises:
        OSError, SpoolUnavailableError, ValueError: the state of the last start cannot be used.
    """
    variables = _variables(pipeline)
    settings = pipeline.settings
    memory = Remembered.of_service(settings.state_dir, settings.service_name, "environment")
    with memory.exclusively() as content:
        before = content.get("software")
        found: list[str] = []
        if isinstance(before, dict):
            found = changes(before, now)
            # Only the names of variables are recorded.
            earlier = content.get("variables") or {}
            found += [
                f"variable {name} {_change(name in earlier, name in variables)}"
                for name in sorted(earlier.keys() | variables.keys())
                if earlier.get(name) != variables.get(name)
            ]
        if found:
            pipeline.emit(_event(pipeline, found, content["software"], now))
        content["software"] = now
        content["variables"] = variables


def code_revision(env: Mapping[str, str], folder: Path | None = None) -> str:
    """The commit of the running code; "" when it is unknown.

    From ``OTEL_RESOURCE_ATTRIBUTES``, else of the checkout around ``folder`` (the working directory), else from a
    variable of the build.
    """
    said = resource_attributes(env).get("vcs.ref.head.revision", "")
    if said:
        return said[:64]
    try:
        found = vcs_revision(folder or Path.cwd())
    except OSError:  # the working directory was removed
        found = ""
    return found or next((env[name] for name in _BUILT_FROM if _COMMIT.fullmatch(env.get(name, ""))), "")


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


def _event(
    pipeline: Pipeline, found: list[str], before: Mapping[str, str], now: Mapping[str, str]
) -> AuditEvent:
    settings = pipeline.settings
    # The code has fields of its own.
    added, removed, updated = difference(_without_code(before), _without_code(now))
    fields: dict[str, Any] = {
        "audit.environment.digest": digest(now),
        "audit.environment.changes": _bounded(found),
        "audit.environment.added": _bounded([f"{name} {version}" for name, version in added.items()]),
        "audit.environment.removed": _bounded([f"{name} {version}" for name, version in removed.items()]),
        "audit.environment.updated": _bounded(
            [f"{name} {old} -> {new}" for name, (old, new) in updated.items()]
        ),
        "vcs.ref.head.revision": now.get(REVISION, ""),
        **container_fields(os.environ),
        "ml.change.ticket": settings.change_ticket,
        "ml.change.approver": settings.change_approver,
    }
    if before.get(REVISION) != now.get(REVISION):
        fields["audit.environment.previous_revision"] = before.get(REVISION, "")
    present = {name: value for name, value in fields.items() if value}
    return originate(
        AuditEvent(ENVIRONMENT_CHANGED, target=Target("environment", settings.service_name), fields=present)
    )


def _without_code(software: Mapping[str, str]) -> dict[str, str]:
    return {name: version for name, version in software.items() if name != REVISION}


def _bounded(texts: list[str]) -> list[str]:
    if len(texts) <= MAX_CHANGES:
        return texts
    return [*texts[:MAX_CHANGES], f"and {len(texts) - MAX_CHANGES} more"]
