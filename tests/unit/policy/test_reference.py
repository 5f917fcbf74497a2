"""The reference ``docs/policy.md`` says what the code does."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlaudit.policy.evaluate import Facts, Level, compile_policy
from mlaudit.policy.load import built_in_text, describe, inspect_policy, load_policy
from mlaudit.policy.methods import DEFAULT_TRUNCATE
from mlaudit.policy.model import Policy
from mlaudit.policy.scrub import MAX_DEPTH, MAX_NODES, MAX_TEXT
from mlaudit.policy.vocabulary import OWN_PREFIXES, REQUIRED_FIELDS

TEXT = (Path(__file__).parents[3] / "docs" / "policy.md").read_text("utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
NOW = datetime(2026, 11, 25, tzinfo=UTC)


def test_there_are_examples() -> None:
    """A complete one and a small one."""
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_loads_without_a_fault_or_warning(example: str) -> None:
    """What the reference shows can be used as it stands."""
    found = inspect_policy(example, now=NOW)
    assert (found.faults, found.warnings) == ((), ())


def test_the_complete_example_uses_every_key() -> None:
    """Nothing of the format is missing from it."""
    for _, name, _ in describe(Policy):
        assert re.search(rf"\b{name}:", EXAMPLES[0]), name


def test_every_section_of_the_file_has_a_heading() -> None:
    """Each top-level key is explained."""
    for name in Policy.model_fields:
        assert f"### `{name}`" in TEXT


def test_the_complete_example_decides_as_it_says() -> None:
    """The credit model's inputs are durable or refused; probes are not recorded."""
    found = inspect_policy(EXAMPLES[0], now=NOW).policy
    assert found is not None
    policy = compile_policy(found, b"key")
    credit = policy.decide(Facts("audit.ml.prediction", service="credit-eu", model="credit-7"))
    assert (credit.rule, credit.level, credit.on_failure) == ("credit decisions", Level.INPUTS, "refuse")
    assert policy.decide(Facts("audit.api.request", route="/status", actor="uptime-1")).level == Level.NONE
    assert policy.decide(Facts("audit.access.denied")).rule == "everything else"
    assert policy.revision == 2


def test_numbers_and_names_in_the_text_are_those_of_the_code() -> None:
    """Limits, own kinds and required fields."""
    flowing = " ".join(TEXT.split())  # a line may end within a phrase
    for text in (
        f"{MAX_DEPTH} levels",
        f"{MAX_NODES:,} parts",
        f"{MAX_TEXT:,} characters",
        f"(default {DEFAULT_TRUNCATE})",
    ):
        assert text in flowing
    for prefix in OWN_PREFIXES:
        assert f"`{prefix}*`" in TEXT
    for name in REQUIRED_FIELDS:
        assert f"`{name}`" in TEXT


def test_the_built_in_policy_has_no_fault_or_warning() -> None:
    """Also when it is given as a file."""
    found = inspect_policy(built_in_text(), now=NOW)
    assert (found.faults, found.warnings) == ((), ())
    assert found.policy == load_policy(None)


@pytest.mark.parametrize(
    "path", ["/health", "/healthz", "/livez", "/readyz", "/metrics", "/docs", "/openapi.json"]
)
def test_probes_are_not_audited_by_default_but_look_alikes_are(path: str) -> None:
    """A probe is left out; a longer path that starts the same is not."""
    policy = compile_policy(load_policy(None), b"key")
    assert policy.route_kind("GET", path) == ""
    assert policy.route_kind("GET", f"{path}-records") is None
    assert policy.route_kind("GET", f"{path}/patient") is None
    assert policy.route_kind("POST", path) is None
