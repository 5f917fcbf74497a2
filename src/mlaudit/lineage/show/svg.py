"""A lineage as a picture: one SVG file, from the data at the left to the predictions at the right.

It has no external references and no script, and everything from a record is escaped. Colours follow the viewer's light
or dark scheme; no meaning depends on colour alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from mlaudit.lineage.chain.format import counted
from mlaudit.lineage.chain.nodes import TITLES, Stage
from mlaudit.lineage.show.geometry import LINE, MARGIN, PADDING, SIZE, Geometry, arrange, column, cut, length
from mlaudit.lineage.show.view import ABSENT, MORE, view
from mlaudit.lineage.show.words import moment
from mlaudit.safety.printable import safe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlaudit.lineage.chain.nodes import Edge, Lineage
    from mlaudit.lineage.show.geometry import Box, Route

_GAPS: Final = 6
_RECORDS: Final = 8
_LEGEND: Final = 92
#: Colour of each stage, on a light and on a dark background.
_COLOURS: Final[Mapping[Stage, tuple[str, str]]] = {
    Stage.DATA: ("#0369a1", "#38bdf8"),
    Stage.RUN: ("#6d28d9", "#a78bfa"),
    Stage.METRICS: ("#a16207", "#facc15"),
    Stage.APPROVAL: ("#047857", "#34d399"),
    Stage.ARTIFACT: ("#be123c", "#fb7185"),
    Stage.DEPLOYMENT: ("#3730a3", "#818cf8"),
    Stage.PREDICTIONS: ("#0f766e", "#2dd4bf"),
}
_LABELS: Final = {
    "trained_on": "trained on",
    "read_in": "read in the run",
    "read_before": "read before the run ended",
    "part_of": "part of",
    "measured": "measured",
    "measured_on": "measured on",
    "made": "made",
    "approved": "approved",
    "deployed": "deployed",
    "loaded": "loaded",
    "answered_with": "answered with",
    "answered": "answered",
}
_STYLE: Final = """
text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"DejaVu Sans",sans-serif;fill:#1e293b}
.mono{font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
.ground{fill:#f8fafc}.name{font-size:20px;font-weight:700}.sub{font-size:12px;fill:#475569}
.stage{font-size:12px;font-weight:700;letter-spacing:.04em}.title{font-size:13px;font-weight:600}
.row{font-size:11px}.label{fill:#64748b}.warning{fill:#92400e;font-weight:600}.fault{fill:#b91c1c;font-weight:700}
.card{fill:#fff;stroke:#cbd5e1}.named{fill:#fffbeb;stroke:#b45309;stroke-dasharray:5 3}
.absent{fill:none;stroke:#94a3b8;stroke-dasharray:2 4}.more{fill:#e2e8f0;stroke:none}
.edge{fill:none;stroke:#64748b;stroke-width:1.6}.near{stroke-dasharray:5 4}.head{fill:#64748b}
.along{font-size:10px;fill:#475569}.rule{stroke:#cbd5e1}.seal{fill:none;stroke:#047857;stroke-width:1.5}
.open{fill:none;stroke:#b45309;stroke-width:1.5}
"""
_DARK: Final = """
text{fill:#e2e8f0}.ground{fill:#0f172a}.sub,.along{fill:#94a3b8}.label{fill:#94a3b8}.warning{fill:#fbbf24}
.fault{fill:#f87171}.card{fill:#1e293b;stroke:#475569}.named{fill:#292211;stroke:#d97706}.absent{stroke:#64748b}
.more{fill:#334155}.edge{stroke:#94a3b8}.head{fill:#94a3b8}.rule{stroke:#334155}.seal{stroke:#34d399}
.open{stroke:#fbbf24}
"""


def draw(lineage: Lineage, proofs: Mapping[str, str] | None = None) -> str:
    """The picture as the text of an SVG file, in ASCII.

    Args:
        lineage: to draw.
        proofs: the verification result of each stream; None where it did not run.
    """
    shown = view(lineage)
    places = arrange(shown)
    gaps = lineage.gaps[:_GAPS]
    footer = _LEGEND + (len(gaps) + (len(lineage.gaps) > len(gaps))) * LINE + (26 if gaps else 0)
    height = places.bottom + footer
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{places.width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {places.width:.0f} {height:.0f}" role="img" aria-labelledby="lineage-title lineage-desc">',
        f'<title id="lineage-title">{_text(f"Lineage of {lineage.label}")}</title>',
        f'<desc id="lineage-desc">{_text(_description(lineage))}</desc>',
        f"<style>{_style()}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="6.5" markerHeight="6.5" '
        'orient="auto"><path class="head" d="M0 .6L7.4 4L0 7.4z"/></marker></defs>',
        f'<rect class="ground" width="{places.width:.0f}" height="{height:.0f}"/>',
        *_head(lineage, places),
        *(_edge(route) for route in places.routes),
        *(part for box in places.boxes for part in _card(box)),
        *_foot(lineage, places, proofs),
        "</svg>",
    ]
    return "\n".join(parts).encode("ascii", "xmlcharrefreplace").decode() + "\n"


def _style() -> str:
    light = "".join(f".{stage}{{fill:{colours[0]}}}" for stage, colours in _COLOURS.items())
    dark = "".join(f".{stage}{{fill:{colours[1]}}}" for stage, colours in _COLOURS.items())
    return f"{_STYLE}{light}\n@media (prefers-color-scheme:dark){{{_DARK}{dark}}}\n"


def _description(lineage: Lineage) -> str:
    parts = []
    for stage in Stage:
        nodes = [node for node in lineage.of(stage) if node.id in lineage.path]
        titles = ", ".join(node.title for node in nodes[:3]) + (
            f" and {len(nodes) - 3} more" if len(nodes) > 3 else ""
        )
        parts.append(f"{TITLES[stage]}: {titles or 'not recorded'}")
    return f"From left to right. {'; '.join(parts)}. {counted(len(lineage.gaps), 'gap')} in the chain."


def _head(lineage: Lineage, places: Geometry) -> Iterator[str]:
    room = places.width - 2 * MARGIN
    yield _line(MARGIN, 44, cut(safe(lineage.label), 21, room), "name")
    window = [
        f"from {moment(lineage.since)}" * bool(lineage.since),
        f"until {moment(lineage.until)}" * bool(lineage.until),
    ]
    parts = [
        lineage.chosen.reason,
        f"{len(lineage.chosen.listed)} versions in the trail" if len(lineage.chosen.listed) > 1 else "",
        "times in UTC",
        f"loads and predictions {' '.join(part for part in window if part)} alone" if any(window) else "",
    ]
    yield _line(MARGIN, 64, cut(safe(" · ".join(part for part in parts if part)), 12, room), "sub")
    for stage in Stage:
        x = column(stage)
        yield f'<circle class="{stage}" cx="{x + 5}" cy="86" r="5"/>'
        yield _line(x + 17, 90, TITLES[stage], f"stage {stage}")


def _edge(route: Route) -> str:
    edge = route.edge
    label = _label(edge)
    arrow = "" if edge.kind == "part_of" else ' marker-end="url(#head)"'
    near = "" if edge.proven else " near"
    parts = label if edge.proven else f"{label}; not proven"
    path = f'<g><title>{_text(parts)}</title><path class="edge{near}" d="{route.path}"{arrow}/>'
    if route.label is not None:
        path += _line(*route.label, label, "along")
    return f"{path}</g>"


def _label(edge: Edge) -> str:
    return _LABELS.get(edge.kind, edge.kind)


def _card(box: Box) -> Iterator[str]:
    card = box.card
    look = {"seen": "card", "named": "named", ABSENT: "absent", MORE: "more"}[card.status]
    rectangle = f'x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" height="{box.height:.0f}"'
    yield f"<g><title>{_text(_tooltip(box))}</title>"
    yield f'<rect class="{look}" {rectangle} rx="7"/>'
    if card.status in ("seen", "named"):
        yield (
            f'<path class="{card.stage}" d="M{box.x + 7:.0f} {box.y:.0f}a7 7 0 0 0-7 7v{box.height - 14:.0f}'
            f'a7 7 0 0 0 7 7h-3a4 7 0 0 1-.5-7v-{box.height - 14:.0f}a4 7 0 0 1 .5-7z"/>'
        )
        yield from _mark(box)
    x, y = box.x + PADDING, box.y + PADDING + 12
    yield _line(x, y, box.title, "title label" if card.status == ABSENT else "title")
    for number, row in enumerate(box.rows):
        base = y + 5 + (number + 1) * LINE - 2
        mono = " mono" if row.tone == "digest" else ""
        tone = " warning" if row.tone == "warning" else ""
        if row.label:
            # Follows the label, wherever it ends in the viewer's font.
            yield (
                f'<text class="row" x="{x:.0f}" y="{base:.0f}"><tspan class="label">{_text(row.label)}</tspan>'
                f'<tspan class="{(mono + tone).strip() or "value"}" dx="7">{_text(row.value)}</tspan></text>'
            )
        else:
            yield _line(x, base, row.value, f"row{mono}{tone}")
    yield "</g>"


def _mark(box: Box) -> Iterator[str]:
    """The mark at the right of the title: sealed, unsealed, or not as sealed."""
    x, y = box.x + box.width - 17, box.y + 16
    if box.card.faults:
        yield _line(x - 2, y + 5, "!", "fault title")
    elif box.card.unsealed:
        yield f'<circle class="open" cx="{x}" cy="{y}" r="4.5"/>'
    elif box.card.records and box.card.status == "seen":
        yield f'<path class="seal" d="M{x - 5} {y}l3.4 3.6L{x + 5} {y - 4.4:.1f}"/>'


def _tooltip(box: Box) -> str:
    card = box.card
    parts = [safe(card.title)]
    parts += [safe(" ".join(part for part in (line.label, line.value) if part)) for line in card.lines]
    parts += [safe(line) for line in card.detail]
    parts += [safe(f"{kind.removeprefix('audit.')} {identity}") for kind, identity in card.records[:_RECORDS]]
    if card.total > min(len(card.records), _RECORDS):
        parts.append(f"and {card.total - min(len(card.records), _RECORDS):,} more records")
    return "\n".join(parts)


def _foot(lineage: Lineage, places: Geometry, proofs: Mapping[str, str] | None) -> Iterator[str]:
    y = places.bottom + 30
    yield f'<path class="rule" d="M{MARGIN} {y:.0f}H{places.width - MARGIN:.0f}"/>'
    y += 26
    x = float(MARGIN)
    top, middle = f"{y - 11:.0f}", f"{y - 4:.0f}"
    arrow = 'marker-end="url(#head)"'
    samples = {
        "seen in the trail": f'<rect class="card" x="{{x}}" y="{top}" width="26" height="14" rx="4"/>',
        "only named by other records": f'<rect class="named" x="{{x}}" y="{top}" width="26" height="14" rx="4"/>',
        "same id or digest": f'<path class="edge" d="M{{x}} {middle}h22" {arrow}/>',
        "circumstance, not proven": f'<path class="edge near" d="M{{x}} {middle}h22" {arrow}/>',
        "sealed, and as sealed": (
            f'<path class="seal" transform="translate({{x}} {middle})" d="M7 0l3.4 3.6L17-4.4"/>'
        ),
        "holds unsealed records": (
            f'<circle class="open" cx="13" cy="{middle}" r="4.5" transform="translate({{x}} 0)"/>'
        ),
    }
    for text, sample in samples.items():
        yield sample.format(x=f"{x:.0f}")
        yield _line(x + 34, y, text, "sub")
        x += 34 + length(text, 12) + 26
    yield _line(
        MARGIN,
        y + 20,
        f"{counted(len(lineage.held), 'record')} read, {lineage.counted:,} counted, in "
        f"{counted(len(lineage.streams), 'stream')}. "
        f"{_proven(proofs)}",
        "sub",
    )
    if not lineage.gaps:
        return
    y += 48
    count = len(lineage.gaps)
    yield _line(MARGIN, y, f"{counted(count, 'gap')} in the chain", "row warning")
    room = places.width - 2 * MARGIN
    for gap in lineage.gaps[:_GAPS]:
        y += LINE
        yield _line(MARGIN, y, cut(f"{TITLES[gap.stage]}: {safe(gap.text)}", SIZE, room), "row")
    if count > _GAPS:
        yield _line(MARGIN, y + LINE, f"and {count - _GAPS} more", "row")


def _proven(proofs: Mapping[str, str] | None) -> str:
    if proofs is None:
        return "mlaudit verify checks whether the streams are complete and signed."
    broken = sum(verdict != "holds" for verdict in proofs.values())
    return (
        f"Of {counted(broken, 'stream')} it is not proven that they hold."
        if broken
        else "All streams hold, as verified."
    )


def _line(x: float, y: float, text: str, look: str) -> str:
    return f'<text class="{look}" x="{x:.0f}" y="{y:.0f}">{_text(text)}</text>'


def _text(text: str) -> str:
    """Escaped; line ends in a tooltip stay."""
    return escape("\n".join(safe(line) for line in text.split("\n")))
