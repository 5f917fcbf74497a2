"""Generates from the Sigma rules: the plans of ``mlaudit detect``, Elastic Security's rules, the documentation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mlaudit.catalog.load import load_catalog
from tools.generators.detections_document import document
from tools.generators.elastic_rules import Attack, ndjson
from tools.generators.sigma_rules import read_rules

if TYPE_CHECKING:
    from pathlib import Path

OWNED = ("detections/compiled/*.json", "detections/elastic/*.ndjson", "docs/detections.md")


def outputs(root: Path) -> dict[str, str]:
    """Content of every generated file, by path relative to the repository."""
    catalog = load_catalog()
    detections = read_rules(root / "detections" / "rules")
    attack = Attack.read(root / "detections" / "attack.json")
    plans = {
        f"detections/compiled/{one.plan.name}.json": json.dumps(one.plan.to_json(), indent=2) + "\n"
        for one in detections
    }
    return {
        **plans,
        "detections/elastic/mlaudit-rules.ndjson": ndjson(detections, attack, catalog),
        "docs/detections.md": document(detections, attack, catalog),
    }
