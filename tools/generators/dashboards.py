"""Generates Kibana's saved objects from the dashboards' YAML sources."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from mlaudit.catalog.load import load_catalog
from mlaudit.detect.compiled_rule import INDEX
from mlaudit.errors import RuleError
from tools.generators import lens
from tools.generators.dashboard_model import read_dashboards

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mlaudit.catalog.model import Catalog
    from tools.generators.dashboard_model import Control, Dashboard, Panel

OWNED = ("dashboards/kibana/*.ndjson",)

DATA_VIEW: Final = "mlaudit-records"
#: Kibana migrates objects of these versions to its own.
CORE_VERSION: Final = "8.8.0"
DASHBOARD_VERSION: Final = "10.2.0"
DATA_VIEW_VERSION: Final = "8.0.0"

_TECHNIQUES: Final = {"prefix": "prefix", "contains": "wildcard", "exact": "exact"}


def outputs(root: Path) -> dict[str, str]:
    """Content of every generated file, by path relative to the repository."""
    catalog = load_catalog()
    return {
        f"dashboards/kibana/{file.stem}.ndjson": ndjson(read_dashboards(file), catalog)
        for file in sorted((root / "dashboards").glob("*.yaml"))
    }


def ndjson(dashboards: Iterable[Dashboard], catalog: Catalog) -> str:
    """The data view and the dashboards, one saved object per line, as *Saved objects → Import* reads them."""
    objects = [data_view(), *(saved_object(one, catalog) for one in dashboards)]
    return "".join(json.dumps(one, sort_keys=True, ensure_ascii=False) + "\n" for one in objects)


def data_view() -> dict[str, Any]:
    """The data view over all audit data streams."""
    return {
        "type": "index-pattern",
        "id": DATA_VIEW,
        "attributes": {
            "title": INDEX,
            "name": "mlaudit records",
            "timeFieldName": "@timestamp",
            "fieldAttrs": "{}",
            "fieldFormatMap": "{}",
            "fields": "[]",
            "runtimeFieldMap": "{}",
            "sourceFilters": "[]",
        },
        "references": [],
        "coreMigrationVersion": CORE_VERSION,
        "typeMigrationVersion": DATA_VIEW_VERSION,
    }


def saved_object(dashboard: Dashboard, catalog: Catalog) -> dict[str, Any]:
    """One dashboard with its panels and controls."""
    everything = [*dashboard.controls, *(panel.lens for panel in dashboard.panels)]
    if strangers := {one.data_view for one in everything} - {DATA_VIEW}:
        raise RuleError(f"expected the data view {DATA_VIEW} in {dashboard.id}, found {', '.join(strangers)}")
    empty = {"query": "", "language": "kuery"}
    options = {
        "useMargins": True,
        "syncColors": False,
        "syncCursor": True,
        "syncTooltips": False,
        "hidePanelTitles": False,
    }
    return {
        "type": "dashboard",
        "id": dashboard.id,
        "attributes": {
            "title": dashboard.name,
            "description": dashboard.description,
            "panelsJSON": _text([_panel(one, catalog) for one in dashboard.panels]),
            "optionsJSON": _text(options),
            "kibanaSavedObjectMeta": {"searchSourceJSON": _text({"filter": [], "query": empty})},
            "timeRestore": True,
            "timeFrom": dashboard.time_range.from_,
            "timeTo": dashboard.time_range.to,
            "version": 1,
            "controlGroupInput": _controls(dashboard.controls, catalog),
        },
        "references": [
            *(_reference(f"{one.id}:{lens.reference(one)}") for one in dashboard.panels),
            *(_reference(f"controlGroup_{one.id}:optionsListDataView") for one in dashboard.controls),
        ],
        "coreMigrationVersion": CORE_VERSION,
        "typeMigrationVersion": DASHBOARD_VERSION,
    }


def _panel(panel: Panel, catalog: Catalog) -> dict[str, Any]:
    grid = {"x": panel.position.x, "y": panel.position.y, "w": panel.size.w, "h": panel.size.h}
    return {
        "type": "lens",
        "panelIndex": panel.id,
        "gridData": grid | {"i": panel.id},
        "embeddableConfig": {
            "attributes": lens.attributes(panel, catalog),
            "enhancements": {"dynamicActions": {"events": []}},
            "hidePanelTitles": panel.hide_title,
        },
    }


def _controls(controls: Iterable[Control], catalog: Catalog) -> dict[str, Any]:
    panels = {
        one.id: {
            "type": "optionsListControl",
            "order": order,
            "grow": False,
            "width": one.width,
            "explicitInput": {
                "id": one.id,
                "dataViewId": one.data_view,
                "fieldName": lens.checked(one.field, catalog),
                "title": one.label,
                "searchTechnique": _TECHNIQUES[one.match_technique],
                "selectedOptions": [],
                "singleSelect": not one.multiple,
                "sort": {"by": "_count", "direction": "desc"},
            },
        }
        for order, one in enumerate(controls)
    }
    ignore = {
        "ignoreFilters": False,
        "ignoreQuery": False,
        "ignoreTimerange": False,
        "ignoreValidations": False,
    }
    return {
        "chainingSystem": "HIERARCHICAL",
        "controlStyle": "oneLine",
        "ignoreParentSettingsJSON": _text(ignore),
        "panelsJSON": _text(panels),
        "showApplySelections": False,
    }


def _reference(name: str) -> dict[str, str]:
    return {"type": "index-pattern", "id": DATA_VIEW, "name": name}


def _text(content: Any) -> str:
    return json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
