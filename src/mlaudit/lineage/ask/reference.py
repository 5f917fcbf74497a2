"""Which version of a model is meant by ``MODEL``, ``MODEL:VERSION`` and ``MODEL@ALIAS``."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mlaudit.catalog.names import (
    ML_DEPLOYMENT_REPLACED,
    ML_DEPLOYMENT_STARTED,
    ML_MODEL_PROMOTED,
    ML_PREDICTION,
)
from mlaudit.errors import SourceError
from mlaudit.lineage.ask import kinds
from mlaudit.lineage.ask.trail import Ask, Match

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlaudit.lineage.ask.trail import Record, Sighting, Trail

_PROMOTIONS: Final = 1000
_NEAR: Final = 5
_LISTED: Final = 12
_DIGEST: Final = re.compile(r"(?:sha256:)?([0-9a-f]{8,64})")


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the model that records of the trail name.

    ``made``, ``deployed``, ``promoted`` and ``last`` are times of the last such record, empty where there is none;
    ``predictions`` counts.
    """

    version: str
    digests: tuple[str, ...] = ()
    made: str = ""
    deployed: str = ""
    promoted: str = ""
    last: str = ""
    aliases: tuple[str, ...] = ()
    predictions: int = 0


@dataclass(frozen=True, slots=True)
class Chosen:
    """The version whose lineage is shown.

    Attributes:
        name, version: version "" for a model that has none.
        digest: set where it was chosen by its digest.
        reason: why this one.
        versions: all of the model, newest first.
    """

    name: str
    version: str
    digest: str = ""
    reason: str = ""
    versions: tuple[Version, ...] = ()

    @property
    def listed(self) -> list[Version]:
        """The versions worth listing: without the bare name that a registry uses before the first version."""
        return [one for one in self.versions if one.version or one.predictions]


def choose(trail: Trail, text: str) -> Chosen:
    """The version that ``text`` means: a model, ``model:version``, ``model:digest`` or ``model@alias``.

    For a bare model name: the version deployed or promoted last, else the version created last. A name that contains a
    colon or an at sign is used as it is when the trail knows it.

    Raises:
        SourceError: the trail has no such model, version or alias, or the digest prefix is ambiguous.
    """
    for name, mark, wanted in _readings(text):
        found = trail.sightings(name) if name else ()
        if not found:
            continue
        promotions = _promotions(trail, name)
        versions = _versions(found, promotions)
        if not mark:
            return _newest(name, versions)
        if mark == "@" and (chosen := _by_alias(name, wanted, versions, promotions)) is not None:
            return chosen
        return _by_version(name, wanted, versions, mark)
    raise SourceError(_unknown(trail, text))


def _readings(text: str) -> Iterable[tuple[str, str, str]]:
    yield text, "", ""
    for mark in (":", "@"):
        name, found, wanted = text.rpartition(mark)
        if found and wanted:
            yield name, mark, wanted
    # name:sha256:…
    name, found, wanted = text.rpartition(":sha256:")
    if found:
        yield name, ":", wanted


def _promotions(trail: Trail, name: str) -> list[Record]:
    """Records of changes to the model's aliases and stages, oldest first."""
    match = Match((("ml.model.name", (name,)),))
    page = trail.find(Ask((ML_MODEL_PROMOTED,), (match,), _PROMOTIONS))
    return sorted((record for record in page.records if record.succeeded), key=lambda one: (one.time, one.id))


def holders(promotions: Iterable[Record]) -> dict[str, str]:
    """Which version holds each alias and stage after these changes, given oldest first."""
    held: dict[str, str] = {}
    for record in promotions:
        alias, version = record.text("ml.registry.alias"), record.text("ml.model.version")
        before, after = record.text("ml.registry.before"), record.text("ml.registry.after")
        if after:
            # Of an alias, "after" is the version; of a stage it is the stage.
            held[alias] = version or after
        else:
            held.pop(alias, None)
        if before and before != alias and held.get(before) == version:
            del held[before]  # the version has left its former stage
    return held


def _versions(sightings: Iterable[Sighting], promotions: Iterable[Record]) -> tuple[Version, ...]:
    seen: dict[str, list[Sighting]] = defaultdict(list)
    for sighting in sightings:
        seen[sighting.version].append(sighting)
    aliases: dict[str, list[str]] = defaultdict(list)
    for alias, version in holders(promotions).items():
        aliases[version].append(alias)
    versions = [
        Version(
            version,
            tuple(sorted({one.digest for one in found if one.digest})),
            made=_last(found, kinds.MADE),
            deployed=_last(found, (ML_DEPLOYMENT_STARTED, ML_DEPLOYMENT_REPLACED)),
            promoted=_last(found, (ML_MODEL_PROMOTED,)),
            last=_last(found, kinds.NAMING),
            aliases=tuple(sorted(aliases[version])),
            predictions=sum(one.count for one in found if one.kind == ML_PREDICTION),
        )
        for version, found in seen.items()
    ]
    return tuple(
        sorted(
            versions,
            key=lambda one: (bool(one.version), one.made, one.last, _natural(one.version)),
            reverse=True,
        )
    )


def _in_use(one: Version) -> tuple[Any, ...]:
    """Sort key: the greatest is what the bare model name means; entries without a version come last."""
    used = max(one.deployed, one.promoted if one.aliases else "")
    return bool(one.version), used, one.made, one.last, _natural(one.version)


def _last(sightings: Iterable[Sighting], among: tuple[str, ...]) -> str:
    return max((one.last for one in sightings if one.kind in among and one.outcome != "failure"), default="")


def _natural(version: str) -> tuple[tuple[int, str], ...]:
    """Natural sort order: 10 comes after 9."""
    parts = re.findall(r"[0-9]+|[^0-9]+", version)
    return tuple(
        (int(part[:18]), "") if part.isdecimal() and part.isascii() else (-1, part) for part in parts
    )


def _newest(name: str, versions: tuple[Version, ...]) -> Chosen:
    first = max(versions, key=_in_use)
    if first.aliases and first.promoted > first.deployed:
        reason = f"promoted last: {', '.join(first.aliases)}"
    elif first.deployed:
        reason = "deployed last"
    else:
        reason = "made last" if first.made else "used last"
    if len(versions) == 1:
        reason = "the only one" if first.version else "its records name no version"
    return Chosen(name, first.version, reason=reason, versions=versions)


def _by_alias(
    name: str, alias: str, versions: tuple[Version, ...], promotions: list[Record]
) -> Chosen | None:
    """The version that holds the alias; None where no record names the alias."""
    held = holders(promotions)
    if alias in held:
        known = {one.version for one in versions}
        version = held[alias]
        if version not in known:
            versions = (*versions, Version(version, aliases=(alias,)))
        return Chosen(name, version, reason=f"{alias} now", versions=versions)
    of_alias = [record for record in promotions if record.text("ml.registry.alias") == alias]
    if not of_alias:
        return None
    last = of_alias[-1]
    before = last.text("ml.model.version") or last.text("ml.registry.before")
    raise SourceError(
        f"expected a version of {name} that is {alias}, found none: since {last.time[:19]}Z no version is; "
        f"it was version {before or '?'} before, which {name}:{before or 'VERSION'} shows"
    )


def _by_version(name: str, wanted: str, versions: tuple[Version, ...], mark: str) -> Chosen:
    if any(one.version == wanted for one in versions):
        return Chosen(name, wanted, reason="asked for", versions=versions)
    if match := _DIGEST.fullmatch(wanted):
        begins = {digest for one in versions for digest in one.digests if digest.startswith(match[1])}
        if len(begins) == 1:
            (digest,) = begins
            version = next(one.version for one in versions if digest in one.digests)
            return Chosen(name, version, digest, "chosen by its digest", versions)
        if begins:
            raise SourceError(
                f"expected one artifact of {name} whose SHA-256 begins with {match[1]}, found {len(begins)}: "
                f"{', '.join(sorted(begins)[:_LISTED])}"
            )
    what = "a version" if mark == ":" else "an alias, a stage or a version"
    names = [one.version or "(none)" for one in versions]
    aliases = sorted({alias for one in versions for alias in one.aliases})
    known = f"versions {_listed(names)}" + (f" and aliases {_listed(aliases)}" if aliases else "")
    raise SourceError(f"expected {what} of {name} that the trail knows, found {wanted!r}; it knows {known}")


def _unknown(trail: Trail, text: str) -> str:
    names = trail.names()
    if not names:
        return (
            f"expected records of the model {text!r}, found none of any model; is this the right cluster and "
            "namespace?"
        )
    asked = text.rpartition(":")[0] or text.rpartition("@")[0] or text
    by_folded: Mapping[str, str] = {name.casefold(): name for name in reversed(names)}
    near = difflib.get_close_matches(asked.casefold(), list(by_folded), _NEAR, 0.5)
    near += [
        folded
        for folded in by_folded
        if folded not in near and (asked.casefold() in folded or folded in asked.casefold())
    ]
    if near:
        return (
            f"expected a model that the trail knows, found {text!r}; near to it are "
            f"{_listed([by_folded[folded] for folded in near[:_NEAR]])}"
        )
    return f"expected a model that the trail knows, found {text!r}; it knows {_listed(list(names))}"


def _listed(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
