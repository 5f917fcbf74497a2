"""The page about lineage matches the code."""

from __future__ import annotations

import re
from pathlib import Path

from tests.lineage_story import hostile, lineage, model, tell
from typer.main import get_command

from mlaudit.cli import app
from mlaudit.lineage.chain.nodes import Lineage, Stage

PAGE = (Path(__file__).resolve().parents[3] / "docs/lineage.md").read_text(encoding="utf-8")


def lineages() -> list[Lineage]:
    """Several lineages that together have many facts."""
    ended = tell(2)
    ended.tell(
        "audit.ml.deployment.ended", service="loan-scoring", **model("3", "0" * 64), event__reason="over"
    )
    return [lineage(tell()), lineage(tell(), "credit-risk:2"), lineage(hostile("x")), lineage(ended)]


def test_every_option_is_documented() -> None:
    """Each option of the command is in the table."""
    command = get_command(app).commands["lineage"]  # type: ignore[attr-defined]
    options = {name for parameter in command.params for name in parameter.opts if name.startswith("--")} - {
        "--help"
    }

    assert {name for name in options if not re.search(rf"\| .*`{name}[ `]", PAGE)} == set()


def test_every_fact_is_documented() -> None:
    """Each fact that a node has is named in the row of its stage."""
    rows = {stage: re.search(rf"^\| `{stage}` \| (.*) \|$", PAGE, re.MULTILINE) for stage in Stage}
    facts = {(node.stage, name) for told in lineages() for node in told.nodes for name in node.facts}

    assert len(facts) > 60
    assert {(stage, name) for stage, name in facts if f"`{name}`" not in (rows[stage] or [""])[0]} == set()
