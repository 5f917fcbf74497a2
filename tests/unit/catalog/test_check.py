"""The catalog's checks, over a table of catalogs with one thing broken in each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mlaudit.catalog.check import check, constant
from mlaudit.catalog.load import DATA, read_catalog
from mlaudit.catalog.model import Catalog

PREDICTION = "audit.ml.prediction"
Break = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def packaged() -> Catalog:
    """The packaged catalog, unchecked."""
    return read_catalog(DATA)


def _kind(**changes: Any) -> Break:
    return lambda content: content["kinds"][PREDICTION].update(changes)


def _sample(**changes: Any) -> Break:
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return lambda content: content["kinds"][PREDICTION]["sample"].update(named)


def _field(name: str, **changes: Any) -> Break:
    return lambda content: content["fields"][name].update(changes)


def _message(text: str) -> Break:
    return _kind(message={"success": text, "failure": text})


def test_packaged_catalog_has_no_issue(packaged: Catalog) -> None:
    """The catalog that comes with the package does not contradict itself."""
    assert check(packaged) == []


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (_kind(required=["no.such.field"]), f"kind {PREDICTION}: unknown field no.such.field"),
        (_kind(optional=["$nosuch"]), "unknown field group $nosuch"),
        (_kind(optional=["event.hash"]), "event.hash is added by the collector"),
        (_kind(policy=[]), "names no line of the policy document"),
        (_kind(policy=["3.9.9"]), "unknown policy line 3.9.9"),
        (_kind(controls=[]), "names no control"),
        (_kind(controls=["ISO:27001"]), "unknown control ISO:27001"),
        (_kind(ecs={"category": ["ml"], "type": ["access"]}), "ml is not an ECS category"),
        (_kind(ecs={"category": [], "type": ["access"]}), "has no ECS category"),
        (_kind(ecs={"category": ["api"], "type": []}), "has no ECS type"),
        (_kind(ecs={"category": ["file"], "type": ["start"]}), "ECS does not expect type start with file"),
        (_kind(ocsf={"class_uid": 0, "class_name": "Base"}), "the OCSF class 0 'Base' is not a class"),
        (_kind(action="predict"), "the action 'predict' must be an upper-case verb"),
        (_kind(**{"class": "models"}), "unknown class models"),
        (_kind(sample={}), "has no sample"),
        (_message("{ml.model.name} answered"), "names ml.model.name, which the kind does not require"),
        (_message("{audit.actor.id asked"), "message: '{' without"),
        (_message("audit.actor.id} asked"), "message: '}' without '{'"),
        (_sample(rule__id="x"), "the sample has rule.id, which the kind does not list"),
        (_sample(ml__prediction__rows="one"), "the sample's ml.prediction.rows must be long, not str 'one'"),
        (_sample(ml__prediction__rows=True), "the sample's ml.prediction.rows must be long, not bool True"),
        (_sample(source__ip="hmac:1"), "the sample's source.ip must be ip, not str 'hmac:1'"),
        (_sample(related__user="alice"), "the sample's related.user must be a list of keyword"),
        (
            lambda content: content["envelope"]["sample"].pop("host.name"),
            "the sample lacks the required field host.name",
        ),
        (
            lambda content: content["kinds"].update({"audit.Wrong": content["kinds"].pop(PREDICTION)}),
            "kind audit.Wrong: the name must be audit.<area>.<verb>",
        ),
        (
            lambda content: content["fields"].update({"Ml.Name": content["fields"]["ml.model.name"]}),
            "field Ml.Name: the name must be lower-case words",
        ),
        (
            lambda content: content["kinds"].update({"audit.ml_prediction": content["kinds"][PREDICTION]}),
            "has the same constant ML_PREDICTION as audit.ml.prediction",
        ),
        (_field("source.port", example="80"), "field source.port: the example must be long"),
        (_field("ml.prediction.input", original_only=False), "so it must be original_only"),
        (_field("ml.prediction.input", unindexed=True), "original_only excludes unindexed"),
        (_field("source.port", unindexed=True), "only a keyword can be unindexed"),
        (
            lambda content: content["envelope"]["groups"]["model"].append("ml.model.nosuch"),
            "envelope group model: unknown field ml.model.nosuch",
        ),
        (
            lambda content: content["envelope"]["required"].append("no.such"),
            "envelope required: unknown field no.such",
        ),
        (
            lambda content: content["controls"]["controls"].update({"ISO:27001": "Security"}),
            "control ISO:27001: must be <scheme>:<clause>",
        ),
        (
            lambda content: content["controls"]["controls"].update({"NIST": "Everything"}),
            "control NIST: must be <scheme>:<clause>",
        ),
        (
            lambda content: content["policy"]["sections"][0]["lines"].append(
                {"id": "3.1.1", "text": "Again"}
            ),
            "policy line 3.1.1: the id is given twice",
        ),
        (
            lambda content: content["policy"]["sections"][0]["lines"].append({"id": "4.7", "text": "Astray"}),
            "policy line 4.7: does not begin with its section 2",
        ),
    ],
)
def test_contradiction_is_reported(packaged: Catalog, break_it: Break, expected: str) -> None:
    """Each contradiction is reported with its place and what is wrong."""
    content = _mutable(packaged.model_dump(by_alias=True))
    break_it(content)
    issues = [str(issue) for issue in check(Catalog.model_validate(content))]
    assert any(expected in issue for issue in issues), issues


def test_every_contradiction_is_reported_at_once(packaged: Catalog) -> None:
    """Two independent contradictions give two issues, not only the first."""
    content = _mutable(packaged.model_dump(by_alias=True))
    _kind(controls=["ISO:1"], policy=["0.0"])(content)
    issues = {str(issue) for issue in check(Catalog.model_validate(content))}
    assert issues == {
        f"kind {PREDICTION}: unknown control ISO:1",
        f"kind {PREDICTION}: unknown policy line 0.0",
    }


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("audit.ml.prediction", "ML_PREDICTION"),
        ("audit.access.role.changed", "ACCESS_ROLE_CHANGED"),
        ("audit.app.audit.read", "APP_AUDIT_READ"),
    ],
)
def test_constant_name_follows_from_kind(kind: str, expected: str) -> None:
    """A kind's constant is its name without the leading audit, in upper case with underscores."""
    assert constant(kind) == expected


def _mutable(node: Any) -> Any:
    """The dump has tuples; a test must be able to append to its lists."""
    if isinstance(node, dict):
        return {key: _mutable(value) for key, value in node.items()}
    return [_mutable(value) for value in node] if isinstance(node, list | tuple) else node
