"""What a cluster supports, what it has installed, and how to change it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from elasticsearch import ApiError, AuthenticationException, BadRequestError, NotFoundError

from mlaudit.errors import InstallError
from mlaudit.install.plan import COMPONENT, INDEX, LIFECYCLE, ROLE, Asset, Found

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from elasticsearch import Elasticsearch

DATA_STREAMS: Final = "logs-mlaudit.*-*"
OLDEST: Final = 9
#: Field types that the reduced profile does not need.
_FULL_TYPES: Final = ("wildcard", "constant_keyword", "match_only_text")
_BACKING_INDEX: Final = re.compile(r"\.ds-(?P<stream>.+)-\d{4}\.\d\d\.\d\d-(?P<generation>\d{6,})")
_PATHS: Final = {
    LIFECYCLE: "/_ilm/policy",
    COMPONENT: "/_component_template",
    INDEX: "/_index_template",
    ROLE: "/_security/role",
}
_JSON: Final = {"accept": "application/json", "content-type": "application/json"}
_PRIVILEGES: Final = {LIFECYCLE: "manage_ilm", COMPONENT: "manage_index_templates", ROLE: "manage_security"}


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the cluster supports.

    Attributes:
        version: of the node that answered.
        missing: what the full profile needs and the cluster lacks; empty for a full cluster.
        secured: whether the cluster checks privileges at all.
    """

    version: str
    missing: tuple[str, ...]
    secured: bool

    @property
    def profile(self) -> str:
        """The profile that suits the cluster."""
        return "reduced" if self.missing else "full"


def abilities(client: Elasticsearch) -> Abilities:
    """Ask the cluster what it supports. ``GET /`` is not used: a reduced cluster does not answer it.

    Raises:
        InstallError: it is older than what mlaudit supports.
        ApiError, TransportError: it refuses or cannot be reached.
    """
    nodes = client.nodes.info(metric="http", filter_path="nodes.*.version").body
    versions = sorted({str(node["version"]) for node in nodes.get("nodes", {}).values()})
    if not versions:
        raise InstallError("expected at least one node of Elasticsearch to give its version, found none")
    if int(versions[0].partition(".")[0]) < OLDEST:
        raise InstallError(
            f"expected Elasticsearch {OLDEST} or newer, found {versions[0]}; upgrade the cluster"
        )
    missing = [f"field type {name}" for name in _FULL_TYPES if not _knows_type(client, name)]
    if not _has_lifecycle(client):
        missing.append("lifecycle management")
    return Abilities(versions[0], tuple(missing), _is_secured(client))


def missing_privileges(client: Elasticsearch, assets: Iterable[Asset]) -> tuple[str, ...]:
    """Privileges that the user lacks for installing these assets."""
    cluster = ["monitor", *sorted({_PRIVILEGES[asset.kind] for asset in assets if asset.kind in _PRIVILEGES})]
    answer = client.security.has_privileges(
        cluster=cluster, index=[{"names": [DATA_STREAMS], "privileges": ["manage", "view_index_metadata"]}]
    ).body
    lacking = [f"cluster privilege {name}" for name, granted in answer["cluster"].items() if not granted]
    for names, privileges in answer["index"].items():
        lacking += [f"privilege {name} on {names}" for name, granted in privileges.items() if not granted]
    return tuple(lacking)


def look(client: Elasticsearch, assets: Sequence[Asset]) -> Found:
    """The installed versions of these assets, and the mappings of the audit data streams."""
    bodies = {(one.kind, one.name): body for one in assets if (body := _existing(client, one)) is not None}
    return Found(bodies, _write_mappings(client))


def put(client: Elasticsearch, asset: Asset) -> None:
    """Create or replace one asset."""
    client.perform_request("PUT", f"{_PATHS[asset.kind]}/{asset.name}", headers=_JSON, body=dict(asset.body))


def roll_over(client: Elasticsearch, stream: str) -> None:
    """Roll a data stream over to a new index, which uses the current templates."""
    client.indices.rollover(alias=stream)


def _existing(client: Elasticsearch, asset: Asset) -> Mapping[str, Any] | None:
    try:
        answer: Any = client.perform_request("GET", f"{_PATHS[asset.kind]}/{asset.name}", headers=_JSON).body
    except NotFoundError:
        return None
    body: Mapping[str, Any]
    if asset.kind == COMPONENT:
        body = answer["component_templates"][0]["component_template"]
    elif asset.kind == INDEX:
        body = answer["index_templates"][0]["index_template"]
    elif asset.kind == LIFECYCLE:
        body = {"policy": answer[asset.name]["policy"]}
    else:
        body = answer[asset.name]
    return body


def _write_mappings(client: Elasticsearch) -> dict[str, Mapping[str, Any]]:
    """Read mappings from the indices: a reduced cluster does not list its data streams."""
    newest: dict[str, tuple[int, Mapping[str, Any]]] = {}
    answer = client.indices.get_mapping(index=DATA_STREAMS, allow_no_indices=True, ignore_unavailable=True)
    for index, content in answer.body.items():
        named = _BACKING_INDEX.fullmatch(index)
        if named is None:
            continue
        generation = int(named["generation"])
        if generation > newest.get(named["stream"], (0, {}))[0]:
            newest[named["stream"]] = (generation, content["mappings"])
    return {stream: mappings for stream, (_, mappings) in newest.items()}


def _knows_type(client: Elasticsearch, name: str) -> bool:
    template = {"mappings": {"properties": {"probe": {"type": name}}}}
    try:
        client.indices.simulate_template(index_patterns=["mlaudit-probe"], template=template)
    except BadRequestError:
        return False
    return True


def _has_lifecycle(client: Elasticsearch) -> bool:
    try:
        client.perform_request("GET", f"{_PATHS[LIFECYCLE]}/mlaudit-probe", headers=_JSON)
    except NotFoundError:
        return True  # the cluster looked for it
    except BadRequestError:
        return False  # the cluster has no such endpoint
    return True


def _is_secured(client: Elasticsearch) -> bool:
    try:
        client.security.authenticate()
    except AuthenticationException:
        raise
    except ApiError:
        return False  # security is off or not available
    return True
