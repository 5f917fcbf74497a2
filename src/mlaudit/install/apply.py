"""Installs the packaged assets into a cluster. Running it again changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mlaudit.cluster.client import Auth, connect, explained
from mlaudit.errors import InstallError
from mlaudit.install import abilities
from mlaudit.install.packaged import packaged
from mlaudit.install.plan import DATA_STREAM, ROLE, SPOKEN, Change, plan

if TYPE_CHECKING:
    from pathlib import Path

Profile = Literal["auto", "full", "reduced"]


@dataclass(frozen=True, slots=True)
class Report:
    """What was done, or with ``dry_run`` what would be.

    Attributes:
        profile: the profile that was installed.
        missing: what a full profile needs and the cluster lacks.
        changes: one per asset and per data stream, including those without a difference.
        notes: further remarks for a person.
    """

    url: str
    version: str
    profile: str
    missing: tuple[str, ...]
    dry_run: bool
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> tuple[Change, ...]:
        """Only what was, or would be, changed."""
        return tuple(change for change in self.changes if change.action not in ("none", "keep"))


def install(
    url: str,
    auth: Auth = None,
    ca_file: Path | None = None,
    dry_run: bool = False,
    profile: Profile = "auto",
) -> Report:
    """Bring a cluster to what this version of mlaudit needs.

    1. Ask the cluster what it supports, and choose the profile by the answer.
    2. Refuse before the first change if a privilege is missing.
    3. Compare what is wanted with what is installed.
    4. Unless ``dry_run``: create and update, components before what uses them; then roll over the data
       streams whose mappings are older than the templates.

    Raises:
        InstallError: the cluster cannot be reached, refuses, or cannot carry the wanted profile.
    """
    with connect(url, auth, ca_file) as client:
        with explained(url, "reading its capabilities"):
            found = abilities.abilities(client)
        if profile == "full" and found.missing:
            raise InstallError(
                f"expected a cluster that can carry the full profile, but {url} lacks "
                f"{', '.join(found.missing)}; use --profile reduced"
            )
        chosen = found.profile if profile == "auto" else profile
        assets = packaged(chosen)
        notes: list[str] = []
        if found.secured:
            with explained(url, "reading its privileges"):
                lacking = abilities.missing_privileges(client, assets)
            if lacking:
                raise InstallError(
                    f"the user of {url} lacks {', '.join(lacking)}; nothing was changed, use a user that has them"
                )
        elif any(asset.kind == ROLE for asset in assets):
            assets = tuple(asset for asset in assets if asset.kind != ROLE)
            notes.append(
                "security is off in this cluster, so anybody can change records; no role was installed"
            )
        if chosen == "reduced":
            notes.append("no lifecycle management: nothing is rolled over or deleted by age")
        with explained(url, "reading its assets"):
            changes = plan(assets, abilities.look(client, assets))
        if not dry_run:
            by_name = {(asset.kind, asset.name): asset for asset in assets}
            for change in changes:
                if change.action in ("none", "keep"):
                    continue
                with explained(url, f"installing {SPOKEN[change.kind]} {change.name}"):
                    if change.kind == DATA_STREAM:
                        abilities.roll_over(client, change.name)
                    else:
                        abilities.put(client, by_name[change.kind, change.name])
    return Report(url, found.version, chosen, found.missing, dry_run, changes, tuple(notes))
