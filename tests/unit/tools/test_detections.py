"""The detection rules as written, and what is generated from them."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sigma.collection import SigmaCollection
from sigma.data import mitre_attack
from sigma.plugins import InstalledSigmaPlugins
from sigma.validation import SigmaValidator
from tools.generators import detections
from tools.generators.detection_cases import read_cases
from tools.generators.elastic_rules import Attack, eql_sequence, threat
from tools.generators.sigma_rules import Detection, read_rules

from mlaudit.catalog.load import load_catalog
from mlaudit.detect.compiled_rule import LEVELS
from mlaudit.errors import RuleError

ROOT = Path(__file__).parents[3]
RULES = ROOT / "detections" / "rules"
DETECTIONS = read_rules(RULES)
ATTACK = Attack.read(ROOT / "detections" / "attack.json")
ELASTIC = [
    json.loads(line)
    for line in (ROOT / "detections" / "elastic" / "mlaudit-rules.ndjson")
    .read_text(encoding="utf-8")
    .splitlines()
]


@pytest.fixture
def attack_data(tmp_path: Path) -> Iterator[None]:
    """Give pySigma this repository's part of ATT&CK, so that it downloads nothing."""
    mitre_attack.set_cache_dir(str(tmp_path))
    mitre_attack.set_url(str(ROOT / "detections" / "attack.json"))
    mitre_attack.clear_cache()
    yield
    mitre_attack.clear_cache()


def test_the_rules_pass_every_check_of_sigma(attack_data: None) -> None:
    """No validator of pySigma finds an issue, ATT&CK tags included."""
    # d3fendtag would download D3FEND, which no rule names; namespace_tag knows no ATLAS.
    checks = {
        check
        for name, check in InstalledSigmaPlugins.autodiscover().validators.items()
        if name not in ("d3_fendtag", "namespace_tag")
    }
    assert len(checks) > 25
    collection = SigmaCollection.load_ruleset([RULES])
    assert not collection.errors
    assert [str(issue) for issue in SigmaValidator(checks).validate_rules(iter(collection.rules))] == []


def test_the_check_of_sigma_would_find_a_wrong_tag(attack_data: None) -> None:
    """A technique that does not exist is found, so the check above is not empty."""
    text = (RULES / "ml_model_digest_mismatch.yml").read_text(encoding="utf-8")
    collection = SigmaCollection.from_yaml(text.replace("attack.t1195.002", "attack.t9999"))
    checks = {InstalledSigmaPlugins.autodiscover().validators["attacktag"]}
    (issue,) = SigmaValidator(checks).validate_rules(iter(collection.rules))
    assert "t9999" in str(issue)


@pytest.mark.parametrize("detection", DETECTIONS, ids=lambda one: one.plan.name)
class TestEveryRule:
    """What holds for each rule."""

    def test_it_is_ours_and_says_what_to_do(self, detection: Detection) -> None:
        """A rule has our licence, honest causes, triage, tuning and a severity that its score fits."""
        assert detection.license == "Apache-2.0"
        assert detection.falsepositives
        assert len(detection.settings["triage"]) > 200
        assert detection.settings["tuning"]
        score = {"low": 21, "medium": 47, "high": 73, "critical": 99}[detection.plan.level]
        assert detection.settings["risk_score"] == score

    def test_it_serves_the_policy(self, detection: Detection) -> None:
        """A rule names lines of the governance policy that exist."""
        assert set(detection.plan.policy) <= set(load_catalog().policy.lines())

    def test_it_asks_only_for_fields_that_can_be_searched(self, detection: Detection) -> None:
        """Every field of a rule is in the catalog and indexed."""
        for name in detection.fields:
            field = load_catalog().fields[name]
            assert not field.original_only
            assert not field.unindexed

    def test_its_kinds_exist(self, detection: Detection) -> None:
        """Every kind of event that a rule names is in the catalog."""
        text = " ".join(step.query for step in detection.plan.steps)
        named = set(re.findall(r"(?<![a-z])audit\.[a-z]+(?:\.[a-z]+)+", text)) - set(load_catalog().fields)
        assert named <= set(load_catalog().kinds)

    def test_it_has_cases_on_both_sides(self, detection: Detection) -> None:
        """Every rule has at least two cases that fire and three that do not, with kinds of the catalog."""
        cases = [
            case for case in read_cases(ROOT / "detections" / "cases") if case.rule == detection.plan.name
        ]
        assert sum(case.alerts > 0 for case in cases) >= 2
        assert sum(case.alerts == 0 for case in cases) >= 3
        assert {record["kind"] for case in cases for record in case.records} <= set(load_catalog().kinds)


def test_ids_are_stable() -> None:
    """The ids are those that were published: a changed id would be another rule in everybody's SIEM."""
    assert {one.plan.name: one.plan.id for one in DETECTIONS} == {
        "audit-trail-weakened": "a5abf1bb-b769-4d56-bac6-9142de113163",
        "model-digest-mismatch": "d398ade3-8a25-4759-9458-572e1e7d4b4b",
        "prediction-flood": "5f5b8ad3-a330-4515-befd-bd948ec34055",
        "refused-then-success-actor": "6a40fb5d-a28f-46cb-9615-f5708c87d943",
        "refused-then-success-source": "3db392d1-e988-4dca-afc2-fec7c6b6529e",
        "sender-mismatch": "6d0f4c1e-52a7-4f0b-9c37-1f6a8d0e94b2",
        "uncontrolled-production-change": "542f08ce-f0a7-44c5-aa93-4357097adc42",
    }


def test_generated_files_are_what_the_rules_say() -> None:
    """Generating again gives the committed files, byte for byte."""
    for path, content in detections.outputs(ROOT).items():
        assert (ROOT / path).read_text(encoding="utf-8") == content, path


class TestElasticRules:
    """The importable rules of Elastic Security."""

    #: What the detection engine needs of every rule, and of each type.
    REQUIRED = frozenset(
        {"rule_id", "name", "description", "risk_score", "severity", "type", "query", "language"}
    )

    def test_every_rule_is_complete_and_switched_off(self) -> None:
        """A rule has every required field, known values, our licence, and does not run before it is enabled."""
        for rule in ELASTIC:
            assert set(rule) >= self.REQUIRED
            assert str(uuid.UUID(rule["rule_id"])) == rule["rule_id"]
            assert rule["enabled"] is False
            assert rule["license"] == "Apache-2.0"
            assert rule["severity"] in LEVELS[1:]
            assert 0 <= rule["risk_score"] <= 100
            assert rule["index"] == ["logs-mlaudit.*"]
            assert rule["timestamp_override"] == "event.ingested"
            assert rule["note"].startswith("## Triage\n")
            assert all(set(field) == {"name", "type", "ecs"} for field in rule["required_fields"])
            assert all(
                entry["framework"] == "MITRE ATT&CK" and entry["technique"] for entry in rule["threat"]
            )

    def test_runs_overlap(self) -> None:
        """Every run looks back further than its interval, a window and one interval for counts and sequences."""
        plans = {one.plan.id: one.plan for one in DETECTIONS}
        for rule in ELASTIC:
            interval = int(re.fullmatch(r"(\d+)m", rule["interval"])[1])
            back = int(re.fullmatch(r"now-(\d+)m", rule["from"])[1])
            window = plans[rule["rule_id"]].window_seconds // 60
            assert back >= window + interval
            assert back > interval

    def test_each_rule_has_the_type_that_its_steps_need(self) -> None:
        """Single records are a query, a count is a threshold, a sequence is EQL."""
        types = {rule["rule_id"]: rule["type"] for rule in ELASTIC}
        wanted = {
            one.plan.id: "eql"
            if len(one.plan.steps) > 1
            else "threshold"
            if one.plan.window_seconds
            else "query"
            for one in DETECTIONS
        }
        assert types == wanted
        assert sorted(types.values()) == ["eql", "eql", "query", "query", "query", "query", "threshold"]
        (threshold,) = (rule["threshold"] for rule in ELASTIC if rule["type"] == "threshold")
        assert threshold == {"field": ["audit.actor.id"], "value": 200, "cardinality": []}

    def test_techniques_hang_under_their_tactics(self) -> None:
        """A sub-technique is nested under its technique, that under the tactic it belongs to."""
        tags = ("attack.credential-access", "attack.t1110", "attack.t1110.003", "atlas.aml.t0012")
        (entry,) = threat(tags, ATTACK)
        assert entry["tactic"]["id"] == "TA0006"
        (technique,) = entry["technique"]
        assert (technique["id"], technique["name"]) == ("T1110", "Brute Force")
        assert [one["id"] for one in technique["subtechnique"]] == ["T1110.003"]

    def test_a_technique_without_its_tactic_is_refused(self) -> None:
        """A technique that no tag places under a tactic would vanish, so it is an error."""
        with pytest.raises(RuleError, match="T1110"):
            threat(("attack.impact", "attack.t1110"), ATTACK)

    def test_a_sequence_is_written_with_its_window_and_counts(self) -> None:
        """The EQL sequence has the group, the window and how often each step runs."""
        (detection,) = (one for one in DETECTIONS if one.plan.name == "refused-then-success-source")
        lines = eql_sequence(detection).splitlines()
        assert lines[0] == "sequence by source.ip with maxspan=600s"
        assert lines[1] == '  [any where audit.kind:"audit.access.authentication.failed"] with runs=20'
        assert lines[2].startswith("  [any where ")
        assert lines[2].endswith("]")


def test_every_rule_is_documented() -> None:
    """The documentation has a section per rule with its query, id and how to import it."""
    text = (ROOT / "docs" / "detections.md").read_text(encoding="utf-8")
    for one in DETECTIONS:
        assert f"## {one.plan.title}\n" in text
        assert one.plan.id in text
        assert all(step.query in text for step in one.plan.steps)
    assert "Import rules" in text
