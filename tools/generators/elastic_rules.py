"""Writes the rules in the export format of Elastic Security's detection engine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mlaudit.detect.compiled_rule import INDEX
from mlaudit.errors import RuleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from mlaudit.catalog.model import Catalog
    from tools.generators.sigma_rules import Detection

FRAMEWORK: Final = "MITRE ATT&CK"
#: The fields that an alert shows first.
INVESTIGATE: Final = (
    "audit.actor.id",
    "source.ip",
    "service.name",
    "ml.model.name",
    "audit.kind",
    "event.outcome",
)


@dataclass(frozen=True, slots=True)
class Attack:
    """The part of MITRE ATT&CK that the rules name, from ``detections/attack.json``.

    Attributes:
        tactics: id and name by short name, e.g. ``credential-access``.
        techniques: name and short names of the tactics by id, e.g. ``T1110.003``.
    """

    tactics: dict[str, tuple[str, str]]
    techniques: dict[str, tuple[str, tuple[str, ...]]]

    @classmethod
    def read(cls, file: Path) -> Attack:
        """Reads a STIX bundle: MITRE's own or a part of it."""
        tactics: dict[str, tuple[str, str]] = {}
        techniques: dict[str, tuple[str, tuple[str, ...]]] = {}
        for entry in json.loads(file.read_text(encoding="utf-8"))["objects"]:
            ids = [ref["external_id"] for ref in entry.get("external_references", ()) if "external_id" in ref]
            if entry["type"] == "x-mitre-tactic":
                tactics[entry["x_mitre_shortname"]] = (ids[0], entry["name"])
            elif entry["type"] == "attack-pattern":
                phases = tuple(phase["phase_name"] for phase in entry["kill_chain_phases"])
                techniques[ids[0]] = (entry["name"], phases)
        return cls(tactics, techniques)


def ndjson(detections: Iterable[Detection], attack: Attack, catalog: Catalog) -> str:
    """All rules, one per line, as *Import rules* reads them."""
    rules = [elastic_rule(detection, attack, catalog) for detection in detections]
    return "".join(json.dumps(rule, sort_keys=True, ensure_ascii=False) + "\n" for rule in rules)


def elastic_rule(detection: Detection, attack: Attack, catalog: Catalog) -> dict[str, Any]:
    """One rule: ``query`` for single records, ``threshold`` for a count, ``eql`` for a sequence."""
    plan = detection.plan
    # Runs overlap: a window is evaluated until a whole interval after its end.
    interval, reach = (1, plan.window_seconds // 60 + 1) if plan.window_seconds else (5, 9)
    return {
        "rule_id": plan.id,
        "name": plan.title,
        "description": detection.description,
        "author": [detection.author],
        "license": detection.license,
        "enabled": False,
        "immutable": False,
        "version": 1,
        "severity": plan.level,
        "severity_mapping": [],
        "risk_score": detection.settings["risk_score"],
        "risk_score_mapping": [],
        "interval": f"{interval}m",
        "from": f"now-{reach}m",
        "to": "now",
        "max_signals": 100,
        "timestamp_override": "event.ingested",
        "tags": _labels(detection),
        "threat": threat(detection.tags, attack),
        "false_positives": list(detection.falsepositives),
        "references": list(detection.references),
        "note": _note(detection),
        "setup": f"Needs the data streams {INDEX} that mlaudit install prepares.",
        "investigation_fields": {"field_names": list(dict.fromkeys((*plan.group_by, *INVESTIGATE)))},
        "required_fields": [_required(name, catalog) for name in detection.fields],
        "related_integrations": [],
        "exceptions_list": [],
        "actions": [],
        "output_index": "",
        "index": [INDEX],
        "filters": [],
        **_query(detection),
    }


def threat(tags: Iterable[str], attack: Attack) -> list[dict[str, Any]]:
    """The ATT&CK tags of a rule as Elastic nests them: tactic, technique, sub-technique.

    Raises:
        RuleError: a tag that ``detections/attack.json`` does not know, or a technique without its tactic's tag.
    """
    names = [tag.removeprefix("attack.") for tag in tags if tag.startswith("attack.")]
    tactics = [name for name in names if name in attack.tactics]
    techniques = [name.upper() for name in names if name not in attack.tactics]
    entries: list[dict[str, Any]] = []
    placed: set[str] = set()
    for tactic in tactics:
        number, title = attack.tactics[tactic]
        own = [one for one in techniques if one in attack.techniques and tactic in attack.techniques[one][1]]
        placed.update(own)
        parents = list(dict.fromkeys(one.partition(".")[0] for one in own))
        entries.append(
            {
                "framework": FRAMEWORK,
                "tactic": {
                    "id": number,
                    "name": title,
                    "reference": f"https://attack.mitre.org/tactics/{number}/",
                },
                "technique": [_technique(parent, own, attack) for parent in parents],
            }
        )
    if strangers := [one for one in techniques if one not in placed]:
        raise RuleError(
            f"expected detections/attack.json and a tactic's tag for attack.{', attack.'.join(strangers)}"
        )
    return entries


def _technique(parent: str, own: Iterable[str], attack: Attack) -> dict[str, Any]:
    def entry(number: str) -> dict[str, Any]:
        path = number.replace(".", "/")
        return {
            "id": number,
            "name": attack.techniques[number][0],
            "reference": f"https://attack.mitre.org/techniques/{path}/",
        }

    return {**entry(parent), "subtechnique": [entry(one) for one in own if one.startswith(f"{parent}.")]}


def eql_sequence(detection: Detection) -> str:
    """The steps of a rule as one EQL sequence."""
    plan = detection.plan
    lines = [f"sequence by {', '.join(plan.group_by)} with maxspan={plan.window_seconds}s"]
    for step, condition in zip(plan.steps, detection.eql, strict=True):
        runs = f" with runs={step.count}" if step.count > 1 else ""
        lines.append(f"  [any where {condition}]{runs}")
    return "\n".join(lines)


def _query(detection: Detection) -> dict[str, Any]:
    plan = detection.plan
    if len(plan.steps) > 1:
        return {
            "type": "eql",
            "language": "eql",
            "query": eql_sequence(detection),
            "timestamp_field": "@timestamp",
            "tiebreaker_field": "event.sequence",
        }
    lucene = {"language": "lucene", "query": plan.steps[0].query}
    if plan.window_seconds:
        threshold = {"field": list(plan.group_by), "value": plan.steps[0].count, "cardinality": []}
        return {"type": "threshold", **lucene, "threshold": threshold}
    return {"type": "query", **lucene}


def _labels(detection: Detection) -> list[str]:
    atlas = [tag.removeprefix("atlas.").upper() for tag in detection.tags if tag.startswith("atlas.")]
    return [
        "Domain: ML",
        "Data Source: mlaudit",
        *(f"ATLAS: {name}" for name in atlas),
        *(f"Policy: {line}" for line in detection.plan.policy),
    ]


def _note(detection: Detection) -> str:
    return f"## Triage\n\n{detection.settings['triage']}\n\n## Tuning\n\n{detection.settings['tuning']}\n"


def _required(name: str, catalog: Catalog) -> Mapping[str, Any]:
    field = catalog.fields.get(name)
    if field is None:
        raise RuleError(f"expected a field of the catalog in a detection rule, found {name}")
    return {"name": name, "type": field.type, "ecs": field.origin == "ecs"}
