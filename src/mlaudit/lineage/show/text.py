"""A lineage as text: the chain from top to bottom, for terminals of 80 columns and more, and for pipes."""

from __future__ import annotations

import shlex
import textwrap
from typing import TYPE_CHECKING, Final

from rich.text import Text

from mlaudit.lineage.chain.format import counted
from mlaudit.lineage.chain.nodes import TITLES, Stage
from mlaudit.lineage.show.view import view
from mlaudit.lineage.show.words import moment
from mlaudit.safety.printable import safe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlaudit.lineage.ask.reference import Version
    from mlaudit.lineage.chain.nodes import Lineage
    from mlaudit.lineage.show.view import Card

MIN_WIDTH: Final = 80
_MARKS: Final = {
    "seen": ("●", "green"),
    "named": ("○", "yellow"),
    "absent": ("-", "yellow"),
    "more": ("⋮", "dim"),
}
_LABEL: Final = 12
_VERSIONS: Final = 10
_STREAMS: Final = 8


def render(
    lineage: Lineage,
    width: int = MIN_WIDTH,
    *,
    verify: str = "",
    proofs: Mapping[str, str] | None = None,
) -> list[Text]:
    """The lines of the text; control sequences in records are escaped.

    Args:
        lineage: to print.
        width: columns; at least 80.
        verify: the command that proves the streams, without their ids; "" omits the hint.
        proofs: the verification result of each stream; None where it did not run.
    """
    width = max(width, MIN_WIDTH)
    shown = view(lineage)
    output = list(_head(lineage, width))
    for stage in Stage:
        output.append(Text(""))
        output.append(Text(TITLES[stage], style="bold"))
        for card in shown.columns[stage]:
            output += _card(card, width)
    output.append(Text(""))
    output += _gaps(lineage, width)
    output += _proof(lineage, width)
    output += _streams(lineage, verify, proofs)
    if len(lineage.chosen.listed) > 1:
        output.append(Text(""))
        output += _versions(lineage)
    return output


def _head(lineage: Lineage, width: int) -> Iterator[Text]:
    head = Text(safe(lineage.label), style="bold")
    if lineage.chosen.reason:
        head.append(f"  ({safe(lineage.chosen.reason)})", style="not bold dim")
    yield head
    window = " ".join(
        part
        for part in (
            f"from {moment(lineage.since)}" if lineage.since else "",
            f"until {moment(lineage.until)}" if lineage.until else "",
        )
        if part
    )
    yield from _wrapped(
        "all times in UTC" + (f"; loads and predictions {window} alone" if window else ""), width, "", "dim"
    )


def _card(card: Card, width: int) -> Iterator[Text]:
    mark, style = _MARKS[card.status]
    indent = "  " * (card.depth + 1)
    title = Text(f"{indent}")
    title.append(mark, style=style)
    title.append(f" {safe(card.title)}", style="" if card.status in ("seen", "named") else "dim")
    yield from _folded(title, width, indent + "  ")
    for label, value, tone in card.lines:
        inner = f"{indent}  "
        name = safe(label)
        text = f"{name:<{_LABEL - 1}} {safe(value)}" if name else safe(value)
        colour = "yellow" if tone == "warning" else ""
        hanging = inner + " " * (_LABEL if label else 0)
        for number, part in enumerate(_parts(text, width - len(inner), width - len(hanging))):
            yield Text(f"{hanging if number else inner}{part}", style=colour)
    if card.records and card.status != "more":
        more = f" and {card.total - 1:,} more" if card.total > 1 else ""
        yield Text(f"{indent}  {'record':<{_LABEL}}{safe(card.records[0][1])}{more}", style="dim")


def _parts(text: str, first: int, rest: int) -> list[str]:
    return textwrap.wrap(
        text,
        width=max(first, 20),
        subsequent_indent=" " * max(first - rest, 0),
        break_on_hyphens=False,
        drop_whitespace=True,
    ) or [""]


def _folded(title: Text, width: int, hanging: str) -> Iterator[Text]:
    if len(title) <= width:
        yield title
        return
    yield title[:width]
    rest = title[width:]
    room = width - len(hanging)
    for start in range(0, len(rest), room):
        yield Text(hanging) + rest[start : start + room]


def _wrapped(text: str, width: int, indent: str, style: str = "") -> Iterator[Text]:
    for part in textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=" " * len(indent), break_on_hyphens=False
    ):
        yield Text(part, style=style)


def _gaps(lineage: Lineage, width: int) -> Iterator[Text]:
    if lineage.gaps:
        yield Text(
            f"{len(lineage.gaps)} gaps in the chain" if len(lineage.gaps) > 1 else "1 gap in the chain",
            "yellow",
        )
        for gap in lineage.gaps:
            yield from _wrapped(f"{TITLES[gap.stage]}: {safe(gap.text)}", width, "  - ", "yellow")
    else:
        yield Text("no gap in the chain", style="green")
    for note in lineage.notes:
        yield from _wrapped(safe(note), width, "note: ", "yellow")


def _proof(lineage: Lineage, width: int) -> Iterator[Text]:
    held = lineage.held
    faulty = [one for one in held.values() if one.fault]
    for one in faulty[:_STREAMS]:
        yield from _wrapped(
            f"record {safe(one.record_id)} is not as it was sealed: {safe(one.fault)}",
            width,
            "! ",
            "bold red",
        )
    text = (
        f"{counted(len(held), 'record')} of {counted(len(lineage.streams), 'stream')} were read and compared with "
        f"their sealed originals{'' if faulty else ', which they match'}; "
        f"{lineage.counted:,} more were counted by their searchable fields. "
    )
    if lineage.unsealed:
        text += f"{lineage.unsealed:,} of them are unsealed: no process sealed them. "
    yield from _wrapped(text.rstrip(), width, "", "dim")


def _streams(lineage: Lineage, verify: str, proofs: Mapping[str, str] | None) -> Iterator[Text]:
    streams = lineage.streams
    for stream, verdict in (proofs or {}).items():
        style = "green" if verdict == "holds" else "bold red"
        yield Text(f"stream {safe(stream)}: {safe(verdict)}", style=style)
    if verify and streams:
        yield Text("whether the streams are complete and signed was not checked; to prove them:", style="dim")
        for stream in list(streams)[:_STREAMS]:
            yield Text(f"  {verify} --stream {shlex.quote(safe(stream))}", style="dim")
        if len(streams) > _STREAMS:
            yield Text(
                f"  and {len(streams) - _STREAMS:,} more streams (--format json lists them)", style="dim"
            )


def _versions(lineage: Lineage) -> Iterator[Text]:
    versions = lineage.chosen.listed
    yield Text(f"versions of {safe(lineage.chosen.name)}", style="bold")
    rows = [("", "version", "made", "deployed", "predictions", "aliases")]
    rows += [_version(one, lineage) for one in versions[:_VERSIONS]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [
            cell.rjust(size) if column == 4 else cell.ljust(size)
            for column, (cell, size) in enumerate(zip(row, widths, strict=True))
        ]
        yield Text("  ".join(cells).rstrip(), style="dim" if number == 0 else "")
    if len(versions) > _VERSIONS:
        yield Text(f"and {len(versions) - _VERSIONS:,} more versions (--format json lists them)", style="dim")


def _version(one: Version, lineage: Lineage) -> tuple[str, str, str, str, str, str]:
    return (
        "→" if one.version == lineage.chosen.version else "",
        _cut(safe(one.version) or "(none)", 16),
        moment(one.made),
        moment(one.deployed),
        f"{one.predictions:,}",
        _cut(safe(", ".join(one.aliases)), 20),
    )


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[: size - 1]}…"
