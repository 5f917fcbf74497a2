"""What is generated for Elasticsearch, in both profiles."""

from __future__ import annotations

from typing import Any

import pytest
from tools.generators.elasticsearch_assets import PRIORITY, PRIORITY_OTHER, PROFILES, assets_of, mappings

from mlaudit.catalog.load import load_catalog
from mlaudit.install.packaged import packaged

FLEET_PRIORITY = 200
LACKING_IN_REDUCED = {"wildcard", "constant_keyword", "match_only_text"}


@pytest.fixture(params=PROFILES)
def profile(request: pytest.FixtureRequest) -> str:
    """Each profile."""
    return str(request.param)


def test_packaged_files_are_the_generated_assets(profile: str) -> None:
    """The installer's files equal the generator's output, with parts first."""
    expected = assets_of(load_catalog(), profile)
    found = packaged(profile)
    assert {(one.kind, one.name) for one in found} == {
        (kind, name) for kind in expected for name in expected[kind]
    }
    assert all(one.body == expected[one.kind][one.name] for one in found)
    kinds = [one.kind for one in found]
    assert kinds == sorted(kinds, key=list(expected).index)


def test_every_searchable_field_is_mapped(profile: str) -> None:
    """Every field is mapped but those that stay in the original; dynamic mapping is off."""
    catalog = load_catalog()
    made = mappings(catalog, profile)
    wanted = {name for name, field in catalog.fields.items() if not field.original_only}
    assert set(made["properties"]) == wanted
    assert made["dynamic"] is False
    assert made["subobjects"] is False


def test_original_is_neither_indexed_nor_in_doc_values(profile: str) -> None:
    """The original has no limit of length, because nothing is made of it but the stored document."""
    made = mappings(load_catalog(), profile)["properties"]
    assert made["event.original"] == {"type": "keyword", "index": False, "doc_values": False}


def test_every_term_has_a_limit(profile: str) -> None:
    """No indexed keyword can exceed Lucene's 32766 bytes a term, even if every character takes four."""
    for name, mapping in mappings(load_catalog(), profile)["properties"].items():
        if mapping["type"] in ("keyword", "wildcard", "flattened") and mapping.get("index", True):
            assert mapping["ignore_above"] * 4 <= 32766, name


def test_templates_win_over_others(profile: str) -> None:
    """Our templates are above Fleet's, and the one per class above the one for all."""
    templates = assets_of(load_catalog(), profile)["index_templates"]
    assert FLEET_PRIORITY < PRIORITY_OTHER < PRIORITY
    for name in load_catalog().classes:
        assert templates[f"logs-mlaudit.{name}"]["index_patterns"] == [f"logs-mlaudit.{name}-*"]
        assert templates[f"logs-mlaudit.{name}"]["priority"] == PRIORITY
    assert templates["logs-mlaudit"]["priority"] == PRIORITY_OTHER


def test_templates_name_only_parts_that_are_installed(profile: str) -> None:
    """Every part that a template is composed of is installed too, or may be missing."""
    assets = assets_of(load_catalog(), profile)
    for template in assets["index_templates"].values():
        optional = template.get("ignore_missing_component_templates", [])
        assert set(template["composed_of"]) <= {*assets["component_templates"], *optional}


def test_malformed_values_are_ignored_not_refused(profile: str) -> None:
    """A value of the wrong type must not lose its document."""
    settings = assets_of(load_catalog(), profile)["component_templates"]["mlaudit-settings"]
    assert settings["template"]["settings"]["index.mapping.ignore_malformed"] is True


def test_reduced_profile_uses_only_what_every_cluster_has() -> None:
    """The reduced profile has no type of a missing module, no lifecycle and no role."""
    assets = assets_of(load_catalog(), "reduced")
    assert set(assets) == {"component_templates", "index_templates"}
    assert not LACKING_IN_REDUCED & _types(assets)
    assert "lifecycle" not in str(assets)


def test_full_profile_keeps_each_class_as_long_as_the_catalog_says() -> None:
    """In the full profile the template of each class names a lifecycle policy that deletes by its retention."""
    catalog = load_catalog()
    assets = assets_of(catalog, "full")
    for name, stream in catalog.classes.items():
        template = assets["index_templates"][f"logs-mlaudit.{name}"]["template"]
        policy = assets["lifecycle_policies"][template["settings"]["index.lifecycle.name"]]["policy"]
        assert policy["phases"]["delete"]["min_age"] == f"{stream.retention_days}d"
        assert template["data_stream_options"] == {"failure_store": {"enabled": True}}


def test_no_role_may_change_or_delete_a_record() -> None:
    """The roles can add or read; none has a privilege that changes or deletes."""
    allowed = {"auto_configure", "create_doc", "read", "read_failure_store", "view_index_metadata"}
    roles = assets_of(load_catalog(), "full")["roles"]
    for name, role in roles.items():
        for grant in role["indices"]:
            assert set(grant["privileges"]) <= allowed, name
    assert "read" not in str(roles["mlaudit_writer"])


def _types(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["type"]} if isinstance(node.get("type"), str) else set()
        return own.union(*(_types(value) for value in node.values()))
    return set()
