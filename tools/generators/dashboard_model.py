"""The shape of a dashboard's YAML source. Strict: content that the compiler would not draw is an error.

A subset of the language of kb-dashboard (the package kb-dashboard-core).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic import Field as Setting

from mlaudit.errors import RuleError
from tools.generators.yaml_file import read_mapping

if TYPE_CHECKING:
    from pathlib import Path

#: Columns of Kibana's grid.
GRID = 48


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Query(_Strict):
    """A query in Lucene syntax; the same text runs on Elasticsearch in the tests."""

    lucene: str


class Metric(_Strict):
    """A number per row, or for the whole panel; without ``field`` it counts records."""

    aggregation: Literal["count", "unique_count", "sum", "max", "median", "last_value"]
    label: str
    id: str = ""
    field: str = ""
    date_field: str = "@timestamp"
    filter: Query | None = None

    @model_validator(mode="after")
    def _needs_a_field(self) -> Metric:
        if bool(self.field) is (self.aggregation == "count"):
            raise ValueError(f"expected a field for every aggregation but count, found {self.aggregation}")
        if self.filter and self.aggregation == "last_value":
            raise ValueError("last_value takes no filter: it has one of its own, that the field exists")
        return self


class Sort(_Strict):
    """Order of the values by a metric of the panel."""

    by: str
    direction: Literal["asc", "desc"]


class Values(_Strict):
    """One row or series per value of a field; by the first metric, largest first, unless ``sort`` says otherwise."""

    type: Literal["values"]
    field: str
    size: int
    label: str
    id: str = ""
    sort: Sort | None = None
    show_other_bucket: bool = True
    include_missing_values: bool = False


class Choice(_Strict):
    """One series of ``Filters``."""

    label: str
    query: Query


class Filters(_Strict):
    """One series per query."""

    type: Literal["filters"]
    label: str
    filters: list[Choice]


class Time(_Strict):
    """The time axis."""

    type: Literal["date_histogram"]
    field: str
    label: str


class MetricChart(_Strict):
    """One number."""

    type: Literal["metric"]
    data_view: str
    primary: Metric
    query: Query | None = None


class Legend(_Strict):
    """The position of the legend."""

    visible: Literal["show", "hide"]
    position: Literal["top", "right", "bottom", "left"]


class BarChart(_Strict):
    """Stacked bars over time."""

    type: Literal["bar"]
    mode: Literal["stacked"]
    data_view: str
    dimension: Time
    breakdown: Annotated[Values | Filters, Setting(discriminator="type")]
    metrics: list[Metric] = Setting(min_length=1, max_length=1)
    legend: Legend
    query: Query | None = None


class ColumnSort(_Strict):
    """Column that a table is sorted by."""

    column_id: str
    direction: Literal["asc", "desc"]


class Paging(_Strict):
    """Rows per page of a table."""

    enabled: bool
    page_size: int


class Table(_Strict):
    """A table: nested values as rows, metrics as further columns; every column has an id."""

    type: Literal["datatable"]
    data_view: str
    breakdowns: list[Values] = Setting(min_length=1)
    metrics: list[Metric] = Setting(min_length=1)
    sorting: ColumnSort
    paging: Paging
    query: Query | None = None

    @model_validator(mode="after")
    def _columns_exist(self) -> Table:
        ids = [one.id for one in self.breakdowns] + [one.id for one in self.metrics]
        named = {self.sorting.column_id, *(one.sort.by for one in self.breakdowns if one.sort)}
        if "" in ids or len(set(ids)) != len(ids) or not named <= set(ids):
            raise ValueError(
                f"expected columns with ids, each its own, and sorting by one of them, found {ids}"
            )
        return self


class Size(_Strict):
    """Size of a panel in grid units."""

    w: int = Setting(gt=0, le=GRID)
    h: int = Setting(gt=0)


class Position(_Strict):
    """Upper left corner of a panel in grid units."""

    x: int = Setting(ge=0, lt=GRID)
    y: int = Setting(ge=0)


class Panel(_Strict):
    """One panel."""

    id: str
    title: str
    hide_title: bool = False
    description: str = ""
    size: Size
    position: Position
    lens: Annotated[MetricChart | BarChart | Table, Setting(discriminator="type")]


class Control(_Strict):
    """A choice of values that filters the whole dashboard."""

    type: Literal["options"]
    id: str
    label: str
    data_view: str
    field: str
    multiple: bool
    width: Literal["small", "medium", "large"]
    match_technique: Literal["prefix", "contains", "exact"] = "prefix"


class TimeRange(_Strict):
    """The dashboard's initial time range."""

    from_: str = Setting(alias="from")
    to: str


class Dashboard(_Strict):
    """One dashboard."""

    id: str
    name: str
    description: str
    time_range: TimeRange
    controls: list[Control]
    panels: list[Panel]

    @model_validator(mode="after")
    def _laid_out(self) -> Dashboard:
        cells: dict[tuple[int, int], str] = {}
        for panel in self.panels:
            left, top = panel.position.x, panel.position.y
            if left + panel.size.w > GRID:
                raise ValueError(f"{panel.id}: expected it to end at column {GRID} at most")
            for cell in (
                (x, y) for x in range(left, left + panel.size.w) for y in range(top, top + panel.size.h)
            ):
                if cell in cells:
                    raise ValueError(f"{panel.id} overlaps {cells[cell]}")
                cells[cell] = panel.id
        ids = [one.id for one in self.panels] + [one.id for one in self.controls]
        if len(set(ids)) != len(ids):
            raise ValueError("expected every id of a panel or control once")
        return self


def read_dashboards(file: Path) -> list[Dashboard]:
    """The dashboards in a YAML file; keys that begin with a dot are places for anchors.

    Raises:
        RuleError: the file does not have the expected shape; lists every fault.
    """
    content = read_mapping(file, aliases=True)
    if strangers := [key for key in content if key != "dashboards" and not key.startswith(".")]:
        raise RuleError(f"{file.name}: expected dashboards, found {', '.join(strangers)}")
    try:
        return [Dashboard.model_validate(one) for one in content["dashboards"]]
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise RuleError(f"{file.name}: {faults}") from error
