"""Message templates, names that follow from a kind's name, and complete samples."""

from __future__ import annotations

import json

import pytest

from mlaudit.catalog.field_values import fault_of
from mlaudit.catalog.load import load_catalog
from mlaudit.catalog.model import event_action, pieces, sentence

KINDS = tuple(load_catalog().kinds)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("", ("",)),
        ("plain", ("plain",)),
        ("{a.b}", ("", "a.b", "")),
        ("x {a} y {b}", ("x ", "a", " y ", "b", "")),
    ],
)
def test_template_splits_into_literals_and_fields(template: str, expected: tuple[str, ...]) -> None:
    """Even places are literal, odd ones field names."""
    assert pieces(template) == expected


@pytest.mark.parametrize("template", ["{", "}", "{}", "{a", "a}", "{a{b}}"])
def test_broken_template_is_refused(template: str) -> None:
    """A brace without its partner or without a name is refused."""
    with pytest.raises(ValueError, match=r"in '"):
        pieces(template)


def test_sentence_says_unknown_for_an_absent_field() -> None:
    """A message can be made from any body, however little is in it."""
    assert sentence("{a} did {b}", {"a": "alice"}) == "alice did unknown"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("audit.ml.prediction", "prediction"),
        ("audit.ml.training.started", "training-started"),
        ("audit.access.denied", "access-denied"),
        ("audit.app.*", "app"),
    ],
)
def test_event_action_follows_from_the_kind(kind: str, expected: str) -> None:
    """The ECS action is the kind's name without audit and ml, joined by hyphens."""
    assert event_action(kind) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_sample_is_a_complete_body(kind: str) -> None:
    """Every sample has all required fields, only listed ones, each of its type, and survives JSON."""
    catalog = load_catalog()
    sample = catalog.sample_of(kind)
    required, optional = catalog.fields_of(kind)
    assert set(required) <= set(sample) <= {*required, *optional}
    assert {
        name: fault for name, value in sample.items() if (fault := fault_of(catalog.fields[name], value))
    } == {}
    assert json.loads(json.dumps(sample)) == sample
    assert list(sample) == sorted(sample)
    assert not set(catalog.envelope.sealed) & set(sample)
