"""The dashboards' sources, and the saved objects that are generated from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools.generators import dashboards, lens
from tools.generators.dashboard_model import read_dashboards

from mlaudit.catalog.load import load_catalog
from mlaudit.detect.compiled_rule import INDEX
from mlaudit.errors import RuleError

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "dashboards" / "overview.yaml"
OBJECTS = [
    json.loads(line)
    for line in (ROOT / "dashboards" / "kibana" / "overview.ndjson").read_text(encoding="utf-8").splitlines()
]
VIEW, OVERVIEW = OBJECTS
PANELS: list[dict[str, Any]] = json.loads(OVERVIEW["attributes"]["panelsJSON"])


def changed(tmp_path: Path, change: Any) -> Path:
    """A copy of the overview's source after a change of its content."""
    content = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    change(content)
    file = tmp_path / "changed.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return file


def test_generated_files_are_what_the_sources_say() -> None:
    """Generating again gives the committed file, byte for byte."""
    for path, content in dashboards.outputs(ROOT).items():
        assert (ROOT / path).read_text(encoding="utf-8") == content, path


def test_the_data_view_is_over_every_audit_data_stream() -> None:
    """The data view comes first and covers the data streams by the time of the record."""
    assert (VIEW["type"], VIEW["id"]) == ("index-pattern", "mlaudit-records")
    assert (VIEW["attributes"]["title"], VIEW["attributes"]["timeFieldName"]) == (INDEX, "@timestamp")


def test_every_reference_resolves() -> None:
    """Every reference of dashboard and panels is to an object of the same file, each by a name of its own."""
    known = {(one["type"], one["id"]) for one in OBJECTS}
    assert len(known) == len(OBJECTS)
    names = [one["name"] for one in OVERVIEW["references"]]
    assert len(names) == len(set(names))
    inner = [one for panel in PANELS for one in panel["embeddableConfig"]["attributes"]["references"]]
    assert {(one["type"], one["id"]) for one in (*OVERVIEW["references"], *inner)} <= known
    wanted = {
        f"{panel['panelIndex']}:{one['name']}"
        for panel in PANELS
        for one in panel["embeddableConfig"]["attributes"]["references"]
    }
    assert wanted <= set(names)


def test_texts_that_kibana_parses_are_json() -> None:
    """Every attribute that holds JSON as text parses."""
    attributes = OVERVIEW["attributes"]
    controls = attributes["controlGroupInput"]
    for text in (
        attributes["optionsJSON"],
        attributes["kibanaSavedObjectMeta"]["searchSourceJSON"],
        controls["panelsJSON"],
        controls["ignoreParentSettingsJSON"],
    ):
        assert isinstance(json.loads(text), dict)


def test_panels_are_consistent() -> None:
    """Ids are unique, columns are ordered and named as they exist, and rows are sorted by columns there are."""
    assert len({panel["panelIndex"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        assert panel["gridData"]["i"] == panel["panelIndex"]
        state = panel["embeddableConfig"]["attributes"]["state"]
        ((name, layer),) = state["datasourceStates"]["formBased"]["layers"].items()
        columns = layer["columns"]
        assert sorted(layer["columnOrder"]) == sorted(columns)
        visualization = state["visualization"]
        shown = visualization["layers"][0] if "layers" in visualization else visualization
        assert shown["layerId"] == name
        used = {shown.get(key) for key in ("xAccessor", "splitAccessor", "metricAccessor")} - {None}
        used |= set(shown.get("accessors", ())) | {one["columnId"] for one in shown.get("columns", ())}
        assert used == set(columns)
        for column in columns.values():
            order = column["params"].get("orderBy")
            assert order is None or order["columnId"] in columns


def test_the_overview_shows_what_it_must() -> None:
    """Kinds over time, actors, models, outcomes, refusals, changes, audit health; filters by service, model, actor."""
    titles = {panel["embeddableConfig"]["attributes"]["title"] for panel in PANELS}
    assert titles >= {
        "Records per kind over time",
        "Outcomes over time",
        "Top actors",
        "Top models",
        "Failed and denied requests",
        "Latest changes",
        "Audit health over time",
        "Audit streams by service",
        "Records lost",
    }
    controls = json.loads(OVERVIEW["attributes"]["controlGroupInput"]["panelsJSON"]).values()
    fields = {control["explicitInput"]["fieldName"] for control in controls}
    assert fields >= {"service.name", "ml.model.name", "audit.actor.id"}


def test_the_filter_of_a_metric_is_kept() -> None:
    """A count of failures counts failures: its filter reaches the saved object."""
    (panel,) = (one for one in PANELS if one["panelIndex"] == "mlaudit-failed")
    layers = panel["embeddableConfig"]["attributes"]["state"]["datasourceStates"]["formBased"]["layers"]
    (column,) = layers["mlaudit-failed-layer"]["columns"].values()
    assert column["filter"] == {"query": "event.outcome:failure", "language": "lucene"}


def test_columns_have_the_type_of_their_field() -> None:
    """Times are shown as times, numbers as numbers, names as text."""
    catalog = load_catalog()
    panels = {panel.id: panel for panel in read_dashboards(SOURCE)[0].panels}

    def types(name: str) -> dict[str, str]:
        layers = lens.attributes(panels[name], catalog)["state"]["datasourceStates"]["formBased"]["layers"]
        return {key: column["dataType"] for key, column in layers[f"{name}-layer"]["columns"].items()}

    refused = types("mlaudit-refused")
    assert (refused["actor"], refused["status"], refused["last"]) == ("string", "number", "date")
    assert types("mlaudit-latest-changes")["ticket"] == "string"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda one: one["dashboards"][0].update(colour="red"), "colour"),
        (lambda one: one.update(dashboard=[]), "expected dashboards, found dashboard"),
        (lambda one: one["dashboards"][0]["panels"][0]["lens"].update(type="pie"), "pie"),
        (
            lambda one: one["dashboards"][0]["panels"][0]["lens"]["primary"].update(field="x"),
            "every aggregation but count",
        ),
        (lambda one: one["dashboards"][0]["panels"][1]["position"].update(x=4), "overlaps mlaudit-records"),
        (lambda one: one["dashboards"][0]["panels"][5]["position"].update(x=44), "to end at column 48"),
        (
            lambda one: one["dashboards"][0]["panels"][1].update(
                id="mlaudit-records", position={"x": 8, "y": 90}
            ),
            "once",
        ),
        (
            lambda one: one["dashboards"][0]["panels"][8]["lens"]["sorting"].update(column_id="none"),
            "sorting by one of them",
        ),
    ],
)
def test_a_source_that_would_not_be_drawn_as_written_is_refused(
    tmp_path: Path, change: Any, fault: str
) -> None:
    """Unknown keys, unknown charts, overlaps and dangling names are errors that name the place."""
    with pytest.raises(RuleError, match=r"changed\.yaml") as caught:
        read_dashboards(changed(tmp_path, change))
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    "field", ["ml.model.nam", "event.original", "http.request.body.content", "ml.training.metrics"]
)
def test_a_field_that_cannot_be_aggregated_is_refused(tmp_path: Path, field: str) -> None:
    """Fields that do not exist, or are not searchable, cannot be in a panel or a control."""
    panel = changed(
        tmp_path, lambda one: one["dashboards"][0]["panels"][1]["lens"]["primary"].update(field=field)
    )
    with pytest.raises(RuleError, match="expected an aggregatable field"):
        dashboards.ndjson(read_dashboards(panel), load_catalog())
    control = changed(tmp_path, lambda one: one["dashboards"][0]["controls"][0].update(field=field))
    with pytest.raises(RuleError, match="expected an aggregatable field"):
        dashboards.ndjson(read_dashboards(control), load_catalog())


def test_another_data_view_is_refused(tmp_path: Path) -> None:
    """A panel on a data view that the file does not bring along would show an error in Kibana."""
    file = changed(tmp_path, lambda one: one["dashboards"][0]["panels"][0]["lens"].update(data_view="logs-*"))
    with pytest.raises(RuleError, match="expected the data view mlaudit-records"):
        dashboards.ndjson(read_dashboards(file), load_catalog())
