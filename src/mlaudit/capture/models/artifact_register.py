"""The local register of model artifacts: which digest was saved last at which path, and as which version.

Written when a model is saved under audit, read when one is loaded. It is as trustworthy as the owner of the state
folder; digests that another party must attest are listed under ``models`` in the policy, which takes precedence.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mlaudit.pipeline.shared_file import Remembered

if TYPE_CHECKING:
    from pathlib import Path

MATCH: Final = "match"
MISMATCH: Final = "mismatch"
UNREGISTERED: Final = "unregistered"
KEPT_VERSIONS: Final = 50
KEPT_PATHS: Final = 10_000
FILE: Final = "models.json"


class Entry(NamedTuple):
    """The register's entry of an artifact; digest, version and run are "" where unknown."""

    status: str
    digest: str = ""
    version: str = ""
    run_id: str = ""


class Previous(NamedTuple):
    """The version of a model before; empty text stands for "not known"."""

    version: str = ""
    digest: str = ""
    run_id: str = ""


class Registered(NamedTuple):
    """The result of a registration; ``previous`` is None unless the artifact replaced another."""

    version: str
    previous: Previous | None


class ArtifactRegister:
    """``models.json`` in the state folder: path → versions, oldest first. Safe between processes."""

    def __init__(self, state_dir: Path) -> None:
        self._remembered = Remembered(state_dir / FILE)

    def save(self, path: str, name: str, digest: str, run_id: str = "", version: str = "") -> Registered:
        """Registers the digest of the artifact at ``path``, and the run that made it.

        Versions count 1, 2, … for each new content, unless the caller numbers them. The version
        before is given when the content is new. At most ``KEPT_PATHS`` paths are kept, the newest.

        Raises:
            OSError, SpoolUnavailableError: the state folder cannot be written.
            ValueError: the register is damaged.
        """
        with self._remembered.exclusively() as content:
            versions = self._checked(content).setdefault(path, [])
            while len(content) > KEPT_PATHS:
                del content[
                    min(
                        content,
                        key=lambda known: content[known][-1].get("at", 0) if content[known] else math.inf,
                    )
                ]
            last = versions[-1] if versions else None
            if last is not None and last["digest"] == digest:
                return Registered(str(last["version"]), None)
            version = version or str(int(last["version"]) + 1 if last is not None else 1)
            versions.append(
                {"digest": digest, "version": version, "name": name, "run_id": run_id, "at": int(time.time())}
            )
            del versions[:-KEPT_VERSIONS]
            return Registered(version, None if last is None else _previous(last))

    def last(self, path: str) -> Previous | None:
        """What was registered last at ``path``.

        Raises:
            OSError, ValueError: the register cannot be read or is damaged.
        """
        versions = self._checked(self._remembered.read()).get(path)
        return _previous(versions[-1]) if versions else None

    def lookup(self, path: str, digest: str) -> Entry:
        """Compares an artifact with what was saved last at its path.

        A path that is not registered is looked up by content: a copy of a registered artifact matches.

        Raises:
            OSError, ValueError: the register cannot be read or is damaged.
        """
        content = self._checked(self._remembered.read())
        versions = content.get(path)
        if versions:
            last = versions[-1]
            if last["digest"] == digest:
                return Entry(MATCH, digest, str(last["version"]), last.get("run_id", ""))
            return Entry(MISMATCH, str(last["digest"]))
        for others in content.values():
            for version in reversed(others):
                if version["digest"] == digest:
                    return Entry(MATCH, digest, str(version["version"]), version.get("run_id", ""))
        return Entry(UNREGISTERED)

    def _checked(self, content: dict[str, Any]) -> dict[str, Any]:
        try:
            for versions in content.values():
                for version in versions:
                    version["digest"], int(version["version"])
        except (AttributeError, KeyError, TypeError, ValueError):
            raise ValueError(
                f"{self._remembered.path}: expected the register of saved models, found something else; "
                "move it away to begin a new one"
            ) from None
        return content


def _previous(version: dict[str, Any]) -> Previous:
    return Previous(str(version["version"]), str(version["digest"]), str(version.get("run_id", "")))
