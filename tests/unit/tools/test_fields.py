"""The generated module that the hot path uses."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mlaudit.catalog import names
from mlaudit.catalog.check import constant
from mlaudit.catalog.load import load_catalog
from mlaudit.catalog.names import KINDS, kind_of


def test_every_kind_has_a_constant() -> None:
    """The constant of every kind is its name; the wildcard of the application's own kinds has none."""
    for name in load_catalog().kinds.keys() - {"audit.app.*"}:
        assert getattr(names, constant(name)) == name
    assert "*" not in "".join(vars(names))


def test_nothing_else_has_a_constant() -> None:
    """The module's strings are the two versions, the kinds and what it needs itself: fields are written as names."""
    strings = {
        name for name, value in vars(names).items() if isinstance(value, str) and not name.startswith("_")
    }
    kinds = {constant(name) for name in KINDS}
    assert strings - kinds == {"SCHEMA_VERSION", "ECS_RELEASE"}


def test_sets_follow_sensitivity_and_type() -> None:
    """Each field is in exactly the sets that its sensitivity, type and flags ask for."""
    for name, field in load_catalog().fields.items():
        assert names.FIELD_TYPES[name] == field.type
        assert (name in names.PERSONAL_FIELDS) == (field.sensitivity == "personal")
        assert (name in names.SECRET_FIELDS) == (field.sensitivity == "secret")
        assert (name in names.CONTENT_FIELDS) == (field.sensitivity == "content")
        assert (name in names.IP_FIELDS) == (field.type == "ip")
        assert (name in names.FLATTENED_FIELDS) == (field.type == "flattened")
        assert (name in names.LIST_FIELDS) == field.list
        assert (name in names.ORIGINAL_ONLY_FIELDS) == field.original_only
        assert (name in names.COLLECTOR_FIELDS) == field.added_by_collector


def test_every_kind_is_there_as_the_catalog_says() -> None:
    """The table has every kind, with message pieces that join to the catalog's template."""
    catalog = load_catalog()
    assert list(KINDS) == list(catalog.kinds)
    for name, kind in catalog.kinds.items():
        made = KINDS[name]
        joined = "".join(part if at % 2 == 0 else f"{{{part}}}" for at, part in enumerate(made.message))
        assert joined == kind.message.success
        assert (made.name, made.stream, made.dataset) == (name, kind.class_, f"mlaudit.{kind.class_}")
        assert (made.action, made.durable, made.event_kind) == (kind.action, kind.durable, kind.event_kind)
        assert (made.categories, made.types) == (kind.ecs.category, kind.ecs.type)


def test_only_what_comes_in_volume_is_buffered() -> None:
    """Every kind that security or proof depends on is durable unless the policy says otherwise."""
    buffered = {name for name, kind in KINDS.items() if not kind.durable}
    assert buffered == {
        "audit.ml.prediction",
        "audit.api.request",
        "audit.ml.training.evaluated",
        "audit.ml.tuning.trial",
        "audit.data.read",
        "audit.debug.ended",
        "audit.notebook.cell.executed",
        "audit.host.resource.exhausted",
    }


@pytest.mark.parametrize("name", ["audit.app.report.exported", "audit.app.x", "audit.app.a_b.c2"])
def test_application_kind_is_made_from_the_wildcard(name: str) -> None:
    """A well-formed kind of the application's own has its name and an action of its own, twice the same."""
    made = kind_of(name)
    assert made is not None
    assert made.name == name
    assert made.event_action == "app-" + name.removeprefix("audit.app.").replace(".", "-")
    assert made.stream == KINDS["audit.app.*"].stream
    assert kind_of(name) == made


@pytest.mark.parametrize(
    "name",
    [
        "",
        "audit",
        "audit.nosuch",
        "audit.app",
        *(f"audit.app.{word}" for word in ("", "A", "a..b", "1a", "é")),
    ],
)
def test_other_name_is_no_kind(name: str) -> None:
    """A name that is neither in the catalog nor a well-formed application kind is not a kind."""
    assert kind_of(name) is None


def test_application_kinds_do_not_fill_the_memory() -> None:
    """However many different application kinds are asked for, only so many are kept."""
    for number in range(2000):
        assert kind_of(f"audit.app.n{number}") is not None
    assert len(names._app_kinds) <= 1024


def test_import_brings_neither_yaml_nor_pydantic() -> None:
    """The hot path's module stands alone: it imports nothing but the standard library."""
    code = "import sys, mlaudit.catalog.names; print({'yaml', 'pydantic', 'mlaudit.catalog.model'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "set()"
