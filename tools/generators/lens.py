"""Compiles a panel to the state of Kibana Lens, as Kibana 8.8 and later export it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mlaudit.errors import RuleError
from tools.generators.dashboard_model import (
    BarChart,
    Filters,
    Metric,
    MetricChart,
    Panel,
    Query,
    Table,
    Time,
    Values,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlaudit.catalog.model import Catalog

RECORDS: Final = "___records___"
_DATA_TYPES: Final = {
    "keyword": "string",
    "constant_keyword": "string",
    "wildcard": "string",
    "long": "number",
    "double": "number",
    "boolean": "boolean",
    "ip": "ip",
    "date_nanos": "date",
}
_VISUALIZATIONS: Final = {MetricChart: "lnsMetric", BarChart: "lnsXY", Table: "lnsDatatable"}
_COLOURS: Final = {
    "assignments": [],
    "specialAssignments": [{"rule": {"type": "other"}, "color": {"type": "loop"}, "touched": False}],
    "paletteId": "eui_amsterdam_color_blind",
    "colorMode": {"type": "categorical"},
}


def attributes(panel: Panel, catalog: Catalog) -> dict[str, Any]:
    """The attributes of the Lens visualization of a panel.

    Raises:
        RuleError: a field that the catalog does not have, or that cannot be aggregated.
    """
    layer = f"{panel.id}-layer"
    columns = _columns(panel, catalog)
    return {
        "title": panel.title,
        "description": panel.description,
        "visualizationType": _VISUALIZATIONS[type(panel.lens)],
        "type": "lens",
        "references": [{"type": "index-pattern", "id": panel.lens.data_view, "name": reference(panel)}],
        "state": {
            "visualization": _visualization(panel, layer, columns),
            "query": _query(panel.lens.query),
            "filters": [],
            "datasourceStates": {
                "formBased": {
                    "layers": {
                        layer: {
                            "columns": columns,
                            "columnOrder": list(columns),
                            "incompleteColumns": {},
                            "sampling": 1,
                        }
                    }
                },
                "indexpattern": {"layers": {}},
                "textBased": {"layers": {}},
            },
            "internalReferences": [],
            "adHocDataViews": {},
        },
    }


def reference(panel: Panel) -> str:
    """Name by which a panel refers to its data view."""
    return f"indexpattern-datasource-layer-{panel.id}-layer"


def _columns(panel: Panel, catalog: Catalog) -> dict[str, dict[str, Any]]:
    """The columns in the order of the aggregations: rows first, then metrics."""
    lens = panel.lens
    buckets: list[Time | Values | Filters] = []
    if isinstance(lens, MetricChart):
        metrics = [lens.primary]
    elif isinstance(lens, BarChart):
        buckets, metrics = [lens.dimension, lens.breakdown], lens.metrics
    else:
        buckets, metrics = [*lens.breakdowns], lens.metrics
    names = [one.id or f"{panel.id}-metric-{number}" for number, one in enumerate(metrics)]
    columns = {
        getattr(one, "id", "") or f"{panel.id}-{one.type}": _bucket(one, names[0], catalog) for one in buckets
    }
    return columns | {name: _metric(one, catalog) for name, one in zip(names, metrics, strict=True)}


def _bucket(one: Time | Values | Filters, metric: str, catalog: Catalog) -> dict[str, Any]:
    column: dict[str, Any] = {"label": one.label, "customLabel": True, "isBucketed": True}
    if isinstance(one, Time):
        return column | {
            "dataType": "date",
            "operationType": "date_histogram",
            "scale": "interval",
            "sourceField": one.field,
            "params": {"interval": "auto", "includeEmptyRows": True, "dropPartials": False},
        }
    if isinstance(one, Filters):
        choices = [{"label": choice.label, "input": _query(choice.query)} for choice in one.filters]
        return column | {
            "dataType": "string",
            "operationType": "filters",
            "scale": "ordinal",
            "params": {"filters": choices},
        }
    return column | {
        "dataType": _data_type(one.field, catalog),
        "operationType": "terms",
        "scale": "ordinal",
        "sourceField": one.field,
        "params": {
            "size": one.size,
            "orderBy": {"type": "column", "columnId": one.sort.by if one.sort else metric},
            "orderDirection": one.sort.direction if one.sort else "desc",
            "otherBucket": one.show_other_bucket,
            "missingBucket": one.include_missing_values,
            "parentFormat": {"id": "terms"},
            "include": [],
            "exclude": [],
            "includeIsRegex": False,
            "excludeIsRegex": False,
        },
    }


def _metric(one: Metric, catalog: Catalog) -> dict[str, Any]:
    column: dict[str, Any] = {
        "label": one.label,
        "customLabel": True,
        "dataType": "number",
        "operationType": one.aggregation,
        "isBucketed": False,
        "scale": "ratio",
        "sourceField": one.field or RECORDS,
        "params": {},
    }
    if one.filter:
        column["filter"] = _query(one.filter)
    if one.field:
        own = _data_type(one.field, catalog)
        if one.aggregation in ("max", "last_value"):
            column["dataType"] = own
        if one.aggregation == "last_value":
            column["scale"] = "ordinal" if own == "string" else "ratio"
            column["params"] = {"sortField": one.date_field, "showArrayValues": False}
            # Lens always selects the last record that has the field.
            column["filter"] = {"query": f'"{one.field}": *', "language": "kuery"}
    if one.aggregation in ("count", "sum", "unique_count"):
        # A count of 0 must be shown: it means that there is no problem.
        column["params"] = {"emptyAsNull": False}
    return column


def _visualization(panel: Panel, layer: str, columns: Mapping[str, Any]) -> dict[str, Any]:
    lens = panel.lens
    names = list(columns)
    if isinstance(lens, MetricChart):
        return {"layerId": layer, "layerType": "data", "metricAccessor": names[0]}
    if isinstance(lens, BarChart):
        time, series, metric = names
        return {
            "layers": [
                {
                    "layerId": layer,
                    "layerType": "data",
                    "seriesType": "bar_stacked",
                    "accessors": [metric],
                    "xAccessor": time,
                    "splitAccessor": series,
                    "position": "top",
                    "showGridlines": False,
                    "colorMapping": _COLOURS,
                }
            ],
            "preferredSeriesType": "bar_stacked",
            "legend": {"isVisible": lens.legend.visible == "show", "position": lens.legend.position},
            "valueLabels": "hide",
        }
    return {
        "layerId": layer,
        "layerType": "data",
        "columns": [
            {"columnId": name, "isTransposed": False, "isMetric": not column["isBucketed"]}
            for name, column in columns.items()
        ],
        "sorting": {"columnId": lens.sorting.column_id, "direction": lens.sorting.direction},
        "paging": {"size": lens.paging.page_size, "enabled": lens.paging.enabled},
    }


def _query(query: Query | None) -> dict[str, str]:
    if query is None:
        return {"query": "", "language": "kuery"}
    return {"query": query.lucene, "language": "lucene"}


def checked(name: str, catalog: Catalog) -> str:
    """The name, if the catalog has such a field and it can be aggregated.

    Raises:
        RuleError: it does not exist or cannot be aggregated.
    """
    _data_type(name, catalog)
    return name


def _data_type(name: str, catalog: Catalog) -> str:
    field = catalog.fields.get(name)
    if field is None or field.original_only or field.unindexed or field.type not in _DATA_TYPES:
        raise RuleError(f"expected an aggregatable field of the catalog in a dashboard, found {name}")
    return _DATA_TYPES[field.type]
