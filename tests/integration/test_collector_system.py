"""Events of hosts and clusters: recorded messages, read by the real collector, become unsealed audit records.

The journal and the Kubernetes API are fakes: a ``journalctl`` that prints recorded entries, and an HTTP server.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import wait_for
from tests.integration.beside import Beside, collector_beside
from tests.integration.fake_kubernetes import FakeKubernetes, fake_kubernetes

from mlaudit.catalog.load import load_catalog
from mlaudit.stack.collector_process import this_host
from mlaudit.stack.stack_layout import Layout
from mlaudit.verify.sources.cluster_source import ElasticsearchSource
from mlaudit.verify.sources.source import Remarks, Selection

pytestmark = pytest.mark.stack

RECORDED = Path(__file__).parent / "recorded"
_JOURNALCTL = """#!/bin/sh
# A fake: it prints what was recorded, once, and waits for more that never comes.
case "$*" in *cursor*) ;; *) cat {recorded} ;; esac
exec sleep 3600
"""


@pytest.fixture
def host(service: str) -> str:
    """A host name that no other test uses."""
    return service.replace("test-", "node-")


def watched(host: str, **variables: str) -> Callable[[Layout], dict[str, str]]:
    """The inputs of a collector that reads a kernel log."""

    def prepare(layout: Layout) -> dict[str, str]:
        log = layout.run / "kern.log"
        # Lines from before the collector's first read are not recorded.
        layout.write(log, f"2026-11-25T03:00:00+00:00 {host} kernel: EXT4-fs error (device sda9): long ago\n")
        return {
            "MLAUDIT_HOST_NAME": host,
            "MLAUDIT_HOST_LOGS": "[file_log/kernel]",
            "MLAUDIT_KERNEL_LOG": str(log),
            "MLAUDIT_HOST_INTERVAL": "1h",
        } | variables

    return prepare


def append(beside: Beside, text: str) -> None:
    """Appends a line to the kernel log."""
    log = beside.collector.layout.run / "kern.log"
    wait_for(lambda: "Started watching file" in beside.collector.log.read_text(), "the kernel log is watched")
    with log.open("a") as handle:
        handle.write(text)


def found(elasticsearch, host: str, count: int, seconds: float = 30) -> list[dict[str, Any]]:
    """The documents about a host, oldest first, once ``count`` are stored."""
    hits: list[dict[str, Any]] = []

    def there() -> bool:
        elasticsearch.indices.refresh(index="logs-mlaudit.*", ignore_unavailable=True)
        answer = elasticsearch.options(ignore_status=503).search(
            index="logs-mlaudit.*", query={"term": {"host.name": host}}, size=100, sort="@timestamp"
        )
        hits[:] = answer["hits"]["hits"] if "hits" in answer else []
        return len(hits) >= count

    wait_for(there, f"{count} documents about {host}", seconds)
    return hits


def assert_whole(hit: dict[str, Any]) -> None:
    """Asserts that a document has the whole envelope and only fields of its kind, and is marked as unsealed."""
    catalog = load_catalog()
    original = json.loads(hit["_source"]["event.original"])
    required, optional = catalog.fields_of(original["audit.kind"])
    assert set(required) <= original.keys() <= {*required, *optional}
    assert not {name for name, value in original.items() if value is None}
    assert hit["_source"]["mlaudit.unsealed"] is True
    class_ = catalog.kinds[original["audit.kind"]].class_
    assert hit["_source"]["data_stream.dataset"] == f"mlaudit.{class_}" == original["event.dataset"]
    assert hit["_id"] == original["audit.record.id"] == original["event.id"]
    flags = {name for name in hit["_source"] if name.startswith("mlaudit.")}
    assert flags == {"mlaudit.unsealed"}


def test_kernel_messages_become_records(stack, elasticsearch, host: str) -> None:
    """Memory, processor, disk and GPU errors and an OOM kill are recorded; other messages are not."""
    lines = (RECORDED / "kern.log").read_text().replace("node-3", host)
    with collector_beside(stack, system=watched(host)) as beside:
        append(beside, lines)
        hits = found(elasticsearch, host, 27)
    sources = [hit["_source"] for hit in hits]
    told = [
        (one["audit.kind"].removeprefix("audit.host."), one.get("audit.host.component")) for one in sources
    ]
    assert told == [
        ("hardware.failed", "memory"),
        *[("hardware.failed", "cpu")] * 2,
        ("resource.exhausted", "memory"),
        *[("hardware.failed", "disk")] * 6,
        ("hardware.failed", "gpu"),
        ("hardware.failed", "memory"),
        *[("hardware.failed", "cpu")] * 2,
        *[("hardware.failed", "disk")] * 7,
        *[("hardware.failed", "gpu")] * 2,
        *[("hardware.failed", "network")] * 2,
        ("resource.exhausted", "memory"),
        ("maintenance", None),
    ]
    for hit in hits:
        assert_whole(hit)
    assert sources[3]["event.reason"] == "OOM kill"
    assert sources[3]["audit.host.text"].startswith("Memory cgroup out of memory: Killed process 31337")
    assert sources[3]["@timestamp"].startswith("2026-11-25T03:30:03.000001")
    assert sources[10]["error.code"] == "48"


def test_journal_tells_of_boots_upgrades_and_hardware(stack, elasticsearch, host: str) -> None:
    """Boot, shutdown, upgrade and hardware failure are recorded from the journal; messages from a user are not."""

    def prepare(layout: Layout) -> dict[str, str]:
        recorded = layout.write(
            layout.run / "journal.jsonl",
            (RECORDED / "journal.jsonl").read_text().replace("node-3", host).replace("s=1a", host),
        )
        program = layout.write(layout.run / "journalctl", _JOURNALCTL.format(recorded=recorded))
        program.chmod(0o755)
        return watched(host, MLAUDIT_HOST_LOGS="[journald]", PATH=f"{layout.run}:/usr/bin:/bin")(layout)

    with collector_beside(stack, system=prepare):
        hits = found(elasticsearch, host, 7)
    sources = [hit["_source"] for hit in hits]
    assert [(one["audit.kind"].removeprefix("audit.host."), one.get("event.reason")) for one in sources] == [
        ("maintenance", "boot"),
        ("maintenance", "startup finished"),
        ("maintenance", "unattended upgrade"),
        ("maintenance", "unattended upgrade"),
        ("hardware.failed", None),
        ("maintenance", "reboot"),
        ("maintenance", "reboot"),
    ]
    assert [one["event.outcome"] for one in sources[2:4]] == ["success", "failure"]
    assert sources[-1]["audit.host.text"] == "reboot: Restarting system\x1b[1m"
    assert not [one for one in sources if "said by a user" in one["audit.host.text"]]
    for hit in hits:
        assert_whole(hit)


def test_hostile_messages_stay_text(stack, elasticsearch, host: str) -> None:
    """JSON, brackets, control characters, bad bytes and a huge line become the text of a record and nothing else."""
    claims = (
        '{"mlaudit.unsealed":false,"audit.kind":"audit.ml.prediction","event.dataset":"mlaudit.prediction"}'
    )
    texts = [
        f"EXT4-fs error (device sda1): {claims}",
        f"EXT4-fs error (device sdb1): {'{[' * 400}",
        "EXT4-fs error (device sdc1): \x1b[31m\x00\x07 \u2028 ${env:PATH} $1 %s",
        f"EXT4-fs error (device sdd1): {'x' * 200_000}",
        'EXT4-fs error (device sde1): ","audit.kind":"audit.ml.prediction","x":"',
    ]
    with collector_beside(stack, system=watched(host)) as beside:
        append(
            beside,
            "".join(
                f"2026-11-25T03:30:{second:02}.5+00:00 {host} kernel: {text}\n"
                for second, text in enumerate(texts)
            ),
        )
        hits = found(elasticsearch, host, 5)
    for hit in hits:
        assert_whole(hit)
        assert hit["_source"]["audit.kind"] == "audit.host.hardware.failed"
    said = [hit["_source"]["audit.host.text"] for hit in hits]
    assert said[0] == texts[0]
    assert said[1] == texts[1].replace("{", "(").replace("[", "(")
    assert said[2] == texts[2]
    assert said[3] == texts[3][:1000]
    assert hits[3]["_source"]["audit.truncated"] == ["audit.host.text"]
    assert said[4] == texts[4]


def test_what_was_read_is_not_read_again(stack, elasticsearch, host: str) -> None:
    """After a kill and restart the collector continues where it was; a line that it reads twice is one document."""
    line = f"2026-11-25T03:30:00.5+00:00 {host} kernel: mce: [Hardware Error]: Machine check events logged\n"
    with collector_beside(stack, system=watched(host)) as beside:
        append(beside, line + line)
        (first,) = found(elasticsearch, host, 1)
        append(beside, line.replace(":00.5", ":01.5") + line)
        hits = found(elasticsearch, host, 2)
    assert [hit["_id"] for hit in hits].count(first["_id"]) == 1
    assert len(hits) == 2


def test_a_threshold_that_is_passed_for_long_is_one_record_an_hour(stack, elasticsearch, host: str) -> None:
    """Utilisation of this machine, with thresholds of 0: each resource is recorded once per hour."""
    if datetime.now(UTC).minute == 59:
        time.sleep(61)  # the one thing that cannot be awaited: the hour that a record stands for
    limits = dict.fromkeys(
        ("MLAUDIT_CPU_THRESHOLD", "MLAUDIT_MEMORY_THRESHOLD", "MLAUDIT_FILESYSTEM_THRESHOLD"), "0"
    )
    system = watched(host, **limits | {"MLAUDIT_HOST_INTERVAL": "1s"})
    with collector_beside(stack, system=system) as beside:
        found(elasticsearch, host, 3)
        crossings = beside.collector.layout.collector / "queue" / "crossings.jsonl"
        seen = crossings.read_text().count("system.cpu.utilization")
        wait_for(lambda: crossings.read_text().count("system.cpu.utilization") > seen + 2, "more crossings")
        hits = found(elasticsearch, host, 3)
    resources = [
        (hit["_source"]["audit.host.component"], hit["_source"].get("audit.host.text")) for hit in hits
    ]
    assert {"cpu", "memory", "disk"} == {component for component, _ in resources}
    assert len(resources) == len(set(resources))
    for hit in hits:
        assert_whole(hit)
        assert hit["_source"]["audit.kind"] == "audit.host.resource.exhausted"
        assert 0 <= hit["_source"]["audit.host.value"] <= 1
        assert hit["_source"]["audit.host.threshold"] == 0


def test_below_its_threshold_a_resource_is_not_told(stack, elasticsearch, host: str) -> None:
    """With unreachable thresholds there is no record, while other events of the host arrive."""
    limits = dict.fromkeys(
        ("MLAUDIT_CPU_THRESHOLD", "MLAUDIT_MEMORY_THRESHOLD", "MLAUDIT_FILESYSTEM_THRESHOLD"), "1.5"
    )
    system = watched(host, **limits | {"MLAUDIT_HOST_INTERVAL": "200ms"})
    with collector_beside(stack, system=system) as beside:
        append(beside, f"2026-11-25T03:30:00.5+00:00 {host} kernel: EXT4-fs error (device sda1)\n")
        hits = found(elasticsearch, host, 1)
        crossings = beside.collector.layout.collector / "queue" / "crossings.jsonl"
        assert not crossings.exists() or not crossings.read_text()
    assert [hit["_source"]["audit.host.source"] for hit in hits] == ["kernel"]


@pytest.fixture
def cluster(stack, tmp_path: Path, host: str) -> Iterator[FakeKubernetes]:
    """A fake cluster that a collector with kubernetes.yaml watches."""
    kubeconfig = tmp_path / "kubeconfig"
    with fake_kubernetes(kubeconfig) as fake:

        def prepare(layout: Layout) -> dict[str, str]:
            copy = layout.write(layout.run / "kubeconfig", kubeconfig.read_text())
            return watched(
                host,
                MLAUDIT_KUBERNETES_AUTH="kubeConfig",
                KUBECONFIG=str(copy),
                MLAUDIT_CLUSTER_NAME="prod-1",
            )(layout)

        with collector_beside(stack, system=prepare):
            watched_by = {"events", "nodes", "deployments", "statefulsets", "daemonsets"}
            wait_for(lambda: fake.watchers.keys() == watched_by, "every resource is watched")
            yield fake


def event(fake: FakeKubernetes, uid: str, about: dict[str, str], reason: str, message: str, by: str) -> None:
    """An event as a controller reports it, a second from now: the receiver accepts none from before its start."""
    moment = (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    fake.tell(
        "events",
        "ADDED",
        metadata={"name": f"{uid}.1", "namespace": about.get("namespace", "default"), "uid": uid},
        involvedObject=about,
        reason=reason,
        message=message,
        source={"component": by},
        reportingComponent=by,
        type="Normal",
        count=1,
        firstTimestamp=moment,
        lastTimestamp=moment,
    )


def test_cluster_events_become_records(cluster: FakeKubernetes, elasticsearch, host: str) -> None:
    """Scaling, a cordon, an eviction and an unready node are recorded, with the reporter; other events are not."""
    deployment = {"kind": "Deployment", "namespace": "ml", "name": host, "uid": "d"}
    node = {"kind": "Node", "name": host, "uid": "n"}
    scaled = f"Scaled up replica set {host}-7d9f to 5 from 3"
    event(cluster, f"{host}-1", deployment, "ScalingReplicaSet", scaled, "deployment-controller")
    event(
        cluster, f"{host}-2", node, "NodeNotSchedulable", "Node status is now: NodeNotSchedulable", "kubelet"
    )
    for number in (3, 4):
        uid = f"{host}-{number}"
        event(
            cluster, uid, node, "EvictionThresholdMet", "Attempting to reclaim ephemeral-storage", "kubelet"
        )
    event(cluster, f"{host}-5", node, "NodeNotReady", "Node status is now: NodeNotReady", "node-controller")
    event(cluster, f"{host}-6", deployment, "Pulled", "image already present", "kubelet")
    event(cluster, f"{host}-7", node, "RegisteredNode", "Registered Node in Controller", "node-controller")
    sources = {hit["_source"]["event.reason"]: hit for hit in found(elasticsearch, host, 5)}
    for hit in sources.values():
        assert_whole(hit)
    assert set(sources) == {
        "ScalingReplicaSet",
        "NodeNotSchedulable",
        "EvictionThresholdMet",
        "NodeNotReady",
        "RegisteredNode",
    }
    change = sources["ScalingReplicaSet"]["_source"]
    assert change["audit.kind"] == "audit.infrastructure.changed"
    assert change["audit.target.id"] == change["orchestrator.namespace"] + "/" + host
    assert (change["audit.actor.id"], change["audit.host.text"]) == ("deployment-controller", scaled)
    assert change["orchestrator.cluster.name"] == "prod-1"
    assert sources["NodeNotSchedulable"]["_source"]["audit.kind"] == "audit.host.maintenance"
    exhausted = sources["EvictionThresholdMet"]["_source"]
    assert (exhausted["audit.kind"], exhausted["audit.host.component"]) == (
        "audit.host.resource.exhausted",
        "disk",
    )
    assert sources["NodeNotReady"]["_source"]["event.outcome"] == "failure"


def test_cluster_objects_become_records(cluster: FakeKubernetes, elasticsearch, host: str) -> None:
    """A node that comes and goes and a rollout are recorded once; heartbeats and status reports are not."""
    node = {"name": host, "uid": f"{host}-n"}
    cluster.tell("nodes", "ADDED", metadata=node, spec={}, status={})
    cluster.tell("nodes", "MODIFIED", metadata=node, spec={}, status={})
    rollout = {
        "metadata": {"name": "loan-scoring", "namespace": "ml", "uid": f"{host}-d", "generation": 7},
        "spec": {
            "replicas": 5,
            "template": {"spec": {"containers": [{"name": "m", "image": "reg/loan:1.4.0"}]}},
        },
    }
    for observed in (6, 6, 7, 7):
        cluster.tell(
            "deployments",
            "MODIFIED",
            **json.loads(json.dumps(rollout)),
            status={"observedGeneration": observed},
        )
    cluster.tell("nodes", "DELETED", metadata=node, spec={}, status={})
    hits = found(elasticsearch, host, 3)
    for hit in hits:
        assert_whole(hit)
        assert hit["_source"]["audit.kind"] == "audit.infrastructure.changed"
    told = {
        (hit["_source"]["orchestrator.resource.type"], hit["_source"]["event.reason"]): hit["_source"]
        for hit in hits
    }
    assert set(told) == {("node", "added"), ("node", "removed"), ("deployment", "updated")}
    text = told["deployment", "updated"]["audit.host.text"]
    assert text == "generation 7, image reg/loan:1.4.0, replicas 5"


def test_no_service_can_pretend(stack, sender, elasticsearch, host: str) -> None:
    """A record sent over OTLP never carries the flag, whatever it claims, and does not replace a host's record."""
    forged = {
        "audit.kind": "audit.host.hardware.failed",
        "event.dataset": "mlaudit.system",
        "host.name": host,
        "mlaudit.unsealed": True,
    }
    with collector_beside(stack, system=watched(host)) as beside:
        own = replace(sender, stack=beside)
        append(beside, f"2026-11-25T03:30:00.5+00:00 {host} kernel: EXT4-fs error (device sda1)\n")
        (true,) = found(elasticsearch, host, 1)
        forged["audit.record.id"] = true["_id"]
        nested = {**forged, "mlaudit": {"unsealed": True}}
        attributes = {"mlaudit.unsealed": "true", "kind": "audit.host.hardware.failed"}
        for body in (forged, nested):
            assert (
                own.send(own.record(json.dumps(body | {"@timestamp": "2026-11-25T03:30:00.5Z"}), attributes))
                == 200
            )
        hits = found(elasticsearch, host, 3)
    flagged = [hit for hit in hits if hit["_source"].get("mlaudit.unsealed")]
    assert [hit["_id"] for hit in flagged] == [true["_id"]]
    assert flagged[0]["_source"]["event.original"] == true["_source"]["event.original"]
    assert {hit["_id"] for hit in hits} != {true["_id"]}


def test_verify_counts_what_nobody_sealed(stack, elasticsearch, host: str) -> None:
    """Unsealed documents are counted as they are stored, without contradictions."""
    with collector_beside(stack, system=watched(host)) as beside:
        append(beside, (RECORDED / "kern.log").read_text().replace("node-3", host))
        hits = found(elasticsearch, host, 27)
    identities = {hit["_id"] for hit in hits}
    hashes = {hit["_source"]["event.hash"] for hit in hits}
    source = ElasticsearchSource(stack.elasticsearch_url, stack.reader_auth, ca_file=stack.ca_file)
    remarks = Remarks()
    records = list(source.read(Selection(), remarks))
    assert remarks.unsealed >= len(identities)
    # Coverage checks places alone, so it ignores them.
    assert not [place for place in source.places([]) if place.hash in hashes]
    assert not [one for one in remarks.findings if one.record_id in identities]
    assert not [record for record in records if record.claims.document_id in identities]


def test_older_format_of_a_kernel_log_is_read_in_the_direct_topology(stack, elasticsearch, host: str) -> None:
    """Lines of rsyslog's traditional format, without a year, get their time, also in the direct topology."""
    with collector_beside(stack, direct=True, system=watched(host)) as beside:
        at = datetime.now().replace(microsecond=0) - timedelta(hours=2)  # noqa: DTZ005 - as syslog writes it
        text = (
            "EDAC MC0: 1 UE memory read error on CPU_SrcID#0_MC#0_Chan#0_DIMM#0 (channel:0 slot:0 page:0x1)"
        )
        append(beside, f"{at:%b %e %H:%M:%S} {host} kernel: [12345.678901] {text}\n")
        (hit,) = found(elasticsearch, host, 1)
    assert_whole(hit)
    assert hit["_source"]["audit.host.text"] == text
    assert datetime.fromisoformat(hit["_source"]["@timestamp"]) == at.astimezone(UTC)


def test_stack_records_this_host(stack, elasticsearch, host: str) -> None:
    """With the settings that ``mlaudit stack up --host`` detects, the collector starts and records this machine."""
    found_out = this_host()
    assert found_out["MLAUDIT_HOST_NAME"]
    system = found_out | {"MLAUDIT_HOST_NAME": host, "MLAUDIT_MEMORY_THRESHOLD": "0"}
    with collector_beside(stack, system=lambda _: system):
        (hit,) = found(elasticsearch, host, 1)
    assert_whole(hit)
    assert hit["_source"]["audit.host.component"] == "memory"
