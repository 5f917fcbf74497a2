"""The guarantees of the shipped configurations of collector and containers, read from the files."""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlaudit.catalog.load import load_catalog
from mlaudit.catalog.names import FIELD_TYPES, FLATTENED_FIELDS
from mlaudit.safety.network import is_loopback
from mlaudit.verify.sources.unsealed import UNSEALED_KINDS

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "collector-config"
OVERLAYS = {
    "alone": (),
    "tls": ("tls.yaml",),
    "direct": ("direct.yaml",),
    "archive": ("archive.yaml",),
    "system": ("system.yaml",),
    "kubernetes": ("system.yaml", "kubernetes.yaml"),
    "all": ("tls.yaml", "direct.yaml", "archive.yaml", "system.yaml", "kubernetes.yaml"),
}
# Attributes of the collector's own records, and the fields that they become.
_SAID = {
    "host": "host.name",
    "component": "audit.host.component",
    "target.id": "audit.target.id",
    "reason": "event.reason",
}
_VARIABLE = re.compile(r"[$][{]env:(?P<name>\w+)(:-(?P<default>[^}]*))?[}]")


def merged(*names: str) -> dict[str, Any]:
    """The configurations put together as the collector does: maps merge, anything else is replaced."""

    def merge(base: Any, over: Any) -> Any:
        if not isinstance(base, dict) or not isinstance(over, dict):
            return over
        both = base.keys() & over.keys()
        return {**base, **over, **{key: merge(base[key], over[key]) for key in both}}

    whole: dict[str, Any] = {}
    for name in ("collector.yaml", *names):
        whole = merge(whole, yaml.safe_load((CONFIG / name).read_text()))
    return whole


def expanded(text: str, environment: dict[str, str]) -> str:
    """A value with its variables filled in."""
    return _VARIABLE.sub(lambda found: environment.get(found["name"], found["default"] or ""), str(text))


def listeners(config: dict[str, Any], environment: dict[str, str]) -> dict[str, tuple[str, bool]]:
    """Name of each listener, its host, and whether it asks for TLS and credentials."""
    found = {}
    for name, receiver in config["receivers"].items():
        for protocol, settings in receiver.get("protocols", {}).items():
            protected = bool(settings.get("tls", {}).get("cert_file")) and bool(settings.get("auth"))
            found[f"{name}/{protocol}"] = (expanded(settings["endpoint"], environment), protected)
    for name, extension in config["extensions"].items():
        if "endpoint" in (extension or {}):
            found[name] = (expanded(extension["endpoint"], environment), False)
    for reader in config["service"]["telemetry"]["metrics"]["readers"]:
        prometheus = reader["pull"]["exporter"]["prometheus"]
        found["metrics"] = (expanded(f"{prometheus['host']}:0", environment), False)
    return {name: (endpoint.rpartition(":")[0], protected) for name, (endpoint, protected) in found.items()}


@pytest.mark.parametrize("overlays", OVERLAYS.values(), ids=OVERLAYS)
def test_nothing_listens_beyond_this_machine_by_default(overlays: tuple[str, ...]) -> None:
    """Without a variable that says otherwise, every listener of every configuration is on loopback."""
    hosts = {name: host for name, (host, _) in listeners(merged(*overlays), {}).items()}
    assert set(hosts) == {"otlp/http", "health_check", "metrics"}
    assert all(ipaddress.ip_address(host).is_loopback for host in hosts.values()), hosts


@pytest.mark.parametrize("overlays", OVERLAYS.values(), ids=OVERLAYS)
def test_every_receiver_asks_who_sends(overlays: tuple[str, ...]) -> None:
    """No overlay takes the authenticator away, and it is one that the service starts."""
    config = merged(*overlays)
    for receiver in config["receivers"].values():
        for settings in receiver.get("protocols", {}).values():
            assert settings["auth"]["authenticator"] in config["service"]["extensions"]


@pytest.mark.parametrize("overlays", OVERLAYS.values(), ids=OVERLAYS)
def test_elasticsearch_is_reached_with_credentials_and_a_checked_certificate(
    overlays: tuple[str, ...],
) -> None:
    """Every exporter authenticates, pins its CA by a file, and speaks http to this machine at most."""
    config = merged(*overlays)
    exporters = {name: found for name, found in config["exporters"].items() if "endpoints" in found}
    assert set(exporters) == {"elasticsearch/audit", "elasticsearch/ordinary"}
    for exporter in exporters.values():
        assert exporter["auth"]["authenticator"] in config["service"]["extensions"]
        assert "ca_file" in exporter["tls"]
        assert exporter["tls"]["min_version"] in ("1.2", "1.3")
        assert not {"insecure", "insecure_skip_verify"} & set(exporter["tls"])
        for endpoint in exporter["endpoints"]:
            url = expanded(endpoint, {})
            assert url.startswith("https:") or is_loopback(url.split("//")[1].rpartition(":")[0])


def test_compose_listens_beyond_the_container_with_tls_and_credentials_only() -> None:
    """In the containers too, what does not authenticate stays on loopback, and Elasticsearch is https."""
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["collector"]
    overlays = [
        part.rpartition("/")[2] for part in service["command"] if part.startswith("--config=/etc/mlaudit/")
    ]
    assert overlays[0] == "collector.yaml"
    found = listeners(merged(*overlays[1:]), service["environment"])
    exposed = {name for name, (host, _) in found.items() if not is_loopback(host)}
    assert exposed == {"otlp/http"}
    assert found["otlp/http"][1]
    assert service["environment"]["MLAUDIT_ELASTICSEARCH_URL"].startswith("https://")
    assert service["environment"]["MLAUDIT_ELASTICSEARCH_CA_FILE"]


def test_compose_publishes_on_this_machine_only() -> None:
    """Every published port is bound to a loopback address."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_object_can_say_a_field_a_second_time() -> None:
    """The collector removes every name that a nested spelling of a catalog field could begin with, and no field."""
    text = (CONFIG / "collector.yaml").read_text()
    patterns = [re.compile(found) for found in re.findall(r'delete_matching_keys\(body, "([^"]+)"\)', text)]
    assert len(patterns) == 2
    prefixes = {name[:at] for name in FIELD_TYPES for at, sign in enumerate(name) if sign == "."}
    prefixes -= set(FIELD_TYPES)
    kept = {name for name in prefixes if not any(pattern.search(name) for pattern in patterns)}
    assert kept == set(), "add them to the second delete_matching_keys of collector.yaml"
    ours = set(FIELD_TYPES) - {name for name in FIELD_TYPES if name.startswith(("mlaudit.", "data_stream."))}
    assert {name for name in ours if any(pattern.search(name) for pattern in patterns)} == set()
    assert set(FLATTENED_FIELDS) <= ours


def statements(config: dict[str, Any], processor: str) -> list[tuple[str, list[str]]]:
    """Condition and statements of each group of a transform processor for logs."""
    groups = config["processors"][processor]["log_statements"]
    return [("".join(group.get("conditions", ())), group["statements"]) for group in groups]


def test_the_collectors_own_records_are_those_of_the_catalog() -> None:
    """The fields that system.yaml writes into a record of a kind match the catalog."""
    catalog = load_catalog()
    common: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {}
    for condition, lines in statements(merged("system.yaml"), "transform/record"):
        kinds = re.findall(r'attributes\["kind"\] == "([^"]+)"', condition)
        for line in lines:
            if found := re.search(r'^set\(attributes\["record"\], ([{].*[}])\)$', line):
                common = json.loads(found[1])
            elif found := re.search(r'^merge_maps\(attributes\["record"\], ([{].*[}]), "upsert"\)$', line):
                own[kinds[0]] = json.loads(found[1])
            elif found := re.search(r'"message"\], Concat\((\[.*\]), ""\)\)( where .* != "failure")?$', line):
                quoted = re.sub(r'attributes\["([^"]+)"\]', lambda name: f'"{{{_SAID[name[1]]}}}"', found[1])
                message = catalog.kinds[kinds[0]].message
                assert "".join(json.loads(quoted)) in (message.success, message.failure)
    assert set(own) == UNSEALED_KINDS
    for kind, fields in own.items():
        expected = catalog.sample_of(kind)
        written = common | fields
        for name in ("audit.action", "event.action", "event.category", "event.type", "event.dataset"):
            assert written[name] == expected[name], (kind, name)
        for name in ("ecs.version", "event.kind", "event.module", "audit.schema.version"):
            assert written[name] == expected[name], (kind, name)


def test_the_collector_makes_only_kinds_that_verify_takes_unsealed() -> None:
    """No configuration names another kind for a record of its own."""
    named = set()
    for name in ("system.yaml", "kubernetes.yaml"):
        named |= set(re.findall(r'set\(attributes\["kind"\], "([^"]+)"\)', (CONFIG / name).read_text()))
    assert named == UNSEALED_KINDS


def test_every_pipeline_of_the_host_ends_with_the_mark() -> None:
    """Unsealed records go through the lock-down and are marked right after it, as the last step."""
    pipelines = merged("system.yaml", "kubernetes.yaml")["service"]["pipelines"]
    own = {name for name in pipelines if name not in merged()["service"]["pipelines"]} - {"metrics/host"}
    assert own == {"logs/crossings", "logs/host", "logs/kubernetes_events", "logs/kubernetes_objects"}
    for name in own:
        assert pipelines[name]["processors"][0] == "memory_limiter/audit"
        assert pipelines[name]["processors"][-3:] == [
            "transform/record",
            "transform/audit",
            "transform/unsealed",
        ]
        assert pipelines[name]["exporters"] == ["elasticsearch/audit"]
    for name in pipelines.keys() - own:
        assert "transform/unsealed" not in pipelines[name].get("processors", ())
