"""Comparing what is wanted with what a cluster has."""

from __future__ import annotations

from typing import Any

import pytest

from mlaudit.install.plan import (
    COMPONENT,
    DATA_STREAM,
    INDEX,
    LIFECYCLE,
    Asset,
    Change,
    Found,
    differences,
    plan,
)

MAPPINGS = {"dynamic": False, "properties": {"ml.model.name": {"type": "keyword", "ignore_above": 1024}}}
COMPONENT_ASSET = Asset(COMPONENT, "mlaudit-mappings", {"template": {"mappings": MAPPINGS}})
#: The same as Elasticsearch gives it back.
RETURNED = {
    "template": {
        "mappings": {
            "dynamic": "false",
            "properties": {"ml.model.name": {"type": "keyword", "ignore_above": 1024}},
        }
    },
    "created_date_millis": 1795579066111,
}


def _found(*assets: tuple[str, str, dict[str, Any]], **streams: dict[str, Any]) -> Found:
    return Found({(kind, name): body for kind, name, body in assets}, streams)


def test_absent_asset_is_created() -> None:
    """What the cluster does not have is created."""
    assert plan([COMPONENT_ASSET], _found()) == (Change(COMPONENT, "mlaudit-mappings", "create"),)


def test_equal_asset_is_left_alone() -> None:
    """An equal asset in the cluster's own notation is not a difference."""
    changes = plan([COMPONENT_ASSET], _found((COMPONENT, "mlaudit-mappings", RETURNED)))
    assert changes == (Change(COMPONENT, "mlaudit-mappings", "none"),)


def test_different_asset_is_updated_and_says_why() -> None:
    """An update names every difference: what is missing, changed, and not wanted."""
    existing = {"template": {"mappings": {"dynamic": "true", "properties": {"extra": {"type": "long"}}}}}
    (change,) = plan([COMPONENT_ASSET], _found((COMPONENT, "mlaudit-mappings", existing)))
    assert change.action == "update"
    assert change.differences == (
        "~ template > mappings > dynamic: true -> false",
        "+ template > mappings > properties > extra > type: long is not wanted",
        "- template > mappings > properties > ml.model.name > ignore_above: 1024 is missing",
        "- template > mappings > properties > ml.model.name > type: keyword is missing",
    )


def test_existing_lifecycle_policy_is_kept() -> None:
    """The organisation decides on retention: its existing policy is shown, not overwritten."""
    wanted = Asset(LIFECYCLE, "mlaudit-access", {"policy": {"phases": {"delete": {"min_age": "365d"}}}})
    existing = {"policy": {"phases": {"delete": {"min_age": "3650d"}}}}
    (change,) = plan([wanted], _found((LIFECYCLE, "mlaudit-access", existing)))
    assert change.action == "keep"
    assert change.differences == ("~ policy > phases > delete > min_age: 3650d -> 365d",)


@pytest.mark.parametrize(
    ("wanted", "existing"),
    [
        ({"settings": {"index.mode": "standard"}}, {"settings": {"index": {"mode": "standard"}}}),
        ({"settings": {"index.mode": "standard"}}, {"settings": {"mode": "standard"}}),
        (
            {"settings": {"index.mapping.ignore_malformed": True}},
            {"settings": {"index": {"mapping": {"ignore_malformed": "true"}}}},
        ),
        ({"data_stream": {}}, {"data_stream": {"hidden": False, "allow_custom_routing": False}}),
        ({"priority": 250}, {"priority": 250, "modified_date": "2026-11-25"}),
        (
            {"cluster": []},
            {"cluster": [], "applications": [], "run_as": [], "transient_metadata": {"enabled": True}},
        ),
        ({"template": {}}, {}),
    ],
)
def test_notation_is_no_difference(wanted: dict[str, Any], existing: dict[str, Any]) -> None:
    """Settings nested or dotted, texts for booleans, and what the server adds mean the same."""
    assert differences(wanted, existing) == ()


@pytest.mark.parametrize(
    ("wanted", "existing"),
    [
        ({"settings": {"index.mode": "standard"}}, {"settings": {"index": {"mode": "logsdb"}}}),
        ({"priority": 250}, {"priority": 100}),
        ({"composed_of": ["a", "b"]}, {"composed_of": ["b", "a"]}),
        ({"ignore_malformed": True}, {}),
        ({}, {"settings": {"index": {"hidden": "true"}}}),
    ],
)
def test_meaning_is_a_difference(wanted: dict[str, Any], existing: dict[str, Any]) -> None:
    """Another value, another order of parts, a missing or an additional setting differ."""
    assert len(differences(wanted, existing)) == 1


@pytest.mark.parametrize(
    ("existing", "action"),
    [
        ({**MAPPINGS, "dynamic": "false", "_data_stream_timestamp": {"enabled": True}}, "none"),
        ({"dynamic": "false", "properties": {}}, "roll over"),
    ],
)
def test_data_stream_with_older_mappings_is_rolled_over(existing: dict[str, Any], action: str) -> None:
    """Templates speak for new indices only, so a stream that lacks a mapping needs a new index; others do not."""
    found = _found((COMPONENT, "mlaudit-mappings", RETURNED), **{"logs-mlaudit.access-default": existing})
    change = plan([COMPONENT_ASSET], found)[-1]
    assert (change.kind, change.name, change.action) == (DATA_STREAM, "logs-mlaudit.access-default", action)


def test_changes_keep_the_order_of_the_assets() -> None:
    """Parts come before what is made of them, and data streams last."""
    assets = [COMPONENT_ASSET, Asset(INDEX, "logs-mlaudit", {"priority": 1})]
    changes = plan(assets, _found(**{"logs-mlaudit.x-y": {}}))
    assert [change.kind for change in changes] == [COMPONENT, INDEX, DATA_STREAM]
