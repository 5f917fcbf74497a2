"""What has to change in a cluster. Pure: compares what is wanted with what is installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Action = Literal["create", "update", "roll over", "keep", "none"]

LIFECYCLE: Final = "lifecycle_policies"
COMPONENT: Final = "component_templates"
INDEX: Final = "index_templates"
ROLE: Final = "roles"
DATA_STREAM: Final = "data_streams"

#: Display name of each kind.
SPOKEN: Final[Mapping[str, str]] = {
    LIFECYCLE: "lifecycle policy",
    COMPONENT: "component template",
    INDEX: "index template",
    ROLE: "role",
    DATA_STREAM: "data stream",
}

#: Fields that a cluster adds to what it returns.
_SERVER_ADDED: Final = frozenset(
    {
        "created_date",
        "created_date_millis",
        "modified_date",
        "modified_date_millis",
        "transient_metadata",
    }
)


@dataclass(frozen=True, slots=True)
class Asset:
    """One thing to install; ``body`` is the body of its PUT request."""

    kind: str
    name: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """The action for one asset or data stream, and its reason: one difference per line."""

    kind: str
    name: str
    action: Action
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """The state of a cluster.

    Attributes:
        assets: body by kind and name, only of those that exist.
        write_mappings: mappings of the index that a data stream writes to, by data stream.
    """

    assets: Mapping[tuple[str, str], Mapping[str, Any]]
    write_mappings: Mapping[str, Mapping[str, Any]]


def plan(wanted: Sequence[Asset], found: Found) -> tuple[Change, ...]:
    """One change per asset, in the given order, then one per data stream.

    An existing lifecycle policy is kept as it is: the organisation decides how long records stay.
    A data stream whose mappings differ from the templates must be rolled over, because templates only apply to new
    indices.
    """
    changes = [_change(asset, found.assets.get((asset.kind, asset.name))) for asset in wanted]
    mappings = _wanted_mappings(wanted)
    for stream, existing in sorted(found.write_mappings.items()):
        missing = tuple(line for line in _differences(mappings, existing) if not line.startswith("+"))
        changes.append(Change(DATA_STREAM, stream, "roll over" if missing else "none", missing))
    return tuple(changes)


def differences(wanted: Mapping[str, Any], existing: Mapping[str, Any]) -> tuple[str, ...]:
    """Readable differences from the existing to the wanted body, empty when they mean the same."""
    return tuple(_differences(wanted, existing))


def _change(asset: Asset, existing: Mapping[str, Any] | None) -> Change:
    if existing is None:
        return Change(asset.kind, asset.name, "create")
    lines = differences(asset.body, existing)
    if not lines:
        return Change(asset.kind, asset.name, "none")
    return Change(asset.kind, asset.name, "keep" if asset.kind == LIFECYCLE else "update", lines)


def _wanted_mappings(wanted: Sequence[Asset]) -> Mapping[str, Any]:
    for asset in wanted:
        if asset.kind == COMPONENT and "mappings" in asset.body["template"]:
            mappings: Mapping[str, Any] = asset.body["template"]["mappings"]
            return mappings
    return {}


def _differences(wanted: Mapping[str, Any], existing: Mapping[str, Any]) -> Iterator[str]:
    want, have = dict(_leaves(wanted)), dict(_leaves(existing))
    for path in sorted(want.keys() | have.keys()):
        place = " > ".join(path)
        if path not in have:
            if want[path] not in _EMPTY:
                yield f"- {place}: {want[path]} is missing"
        elif path not in want:
            if have[path] not in _EMPTY and not _SERVER_ADDED.intersection(path):
                yield f"+ {place}: {have[path]} is not wanted"
        elif want[path] != have[path]:
            yield f"~ {place}: {have[path]} -> {want[path]}"


#: Values that Elasticsearch adds or leaves out; they make no difference.
_EMPTY: Final = ("false", "{}", "[]", "null")


def _leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(node, Mapping) and path[-1:] == ("settings",):
        yield from (((*path, name), value) for name, value in _settings(node))
        return
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _leaves(value, (*path, str(key)))
        return
    yield path, _text(node)


def _settings(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings in Elasticsearch's normal form: dotted, under ``index.``, every value a string."""
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _settings(value, f"{name}.")
        else:
            yield (name if name.startswith("index.") else f"index.{name}"), _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
