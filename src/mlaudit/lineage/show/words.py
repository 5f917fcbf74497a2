"""The facts of a node in a few short lines, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mlaudit.lineage.chain.format import counted, short
from mlaudit.lineage.chain.nodes import NAMED, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from mlaudit.lineage.chain.nodes import Node

_METRICS: Final = 5
_PARAMETERS: Final = 4
_UNITS: Final = (("h", 3_600_000_000_000), ("min", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000))


class Line(NamedTuple):
    """One line of a card. ``tone``: ``digest`` may be truncated, ``warning`` needs attention."""

    label: str
    value: str
    tone: str = ""


def lines(node: Node, circumstantial: bool = False) -> list[Line]:
    """The lines of a node's card.

    Args:
        node: to describe.
        circumstantial: only circumstance links it to the chain.
    """
    parts = [line for line in _OF[node.stage](node.facts) if line.value]
    if circumstantial:
        parts.append(
            Line("", "read by the same process before the run ended; not proven to be its data", "warning")
        )
    if node.status == NAMED:
        parts.append(Line("", "only named: no record of its own", "warning"))
    elif node.gap:
        parts.append(Line("", "no record of its end", "warning"))
    if node.faults:
        parts.append(Line("", f"{counted(node.faults, 'record')} not as sealed", "warning"))
    if node.unsealed:
        parts.append(Line("", f"{counted(node.unsealed, 'record')} unsealed", "warning"))
    return parts


def moment(time: Any) -> str:
    """A time for display: to the second, in UTC."""
    return str(time)[:19].replace("T", " ") if time else ""


def number(value: Any) -> str:
    """A number for display; other values unchanged."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**15 else str(value)
    return f"{value:.4g}"


def duration(nanoseconds: Any) -> str:
    """A duration in the unit that fits."""
    if not isinstance(nanoseconds, int | float):
        return ""
    for unit, size in _UNITS:
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return "under 1 ms"


def _shape(facts: Mapping[str, Any]) -> str:
    rows, columns = facts.get("rows"), facts.get("columns")
    parts = f"{number(rows)} rows" if rows is not None else ""
    if columns is not None:
        parts = f"{parts} by {number(columns)} columns" if parts else f"{number(columns)} columns"
    return parts


def _values(values: Mapping[str, Any], limit: int) -> str:
    parts = [f"{name} {number(value)}" for name, value in list(values.items())[:limit]]
    more = len(values) - limit
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")


def _data(facts: Mapping[str, Any]) -> Iterator[Line]:
    size = f"{number(facts['bytes'])} bytes" if "bytes" in facts else ""
    yield Line("", _shape(facts))
    yield Line("", ", ".join(part for part in (str(facts.get("format", "")), size) if part))
    yield Line("sha256", short(facts.get("digest")), "digest")
    yield Line("target", short(facts.get("target_digest")), "digest")
    if facts.get("uri") != facts.get("name"):
        yield Line("at", str(facts.get("uri", "")))
    yield Line("for", str(facts.get("purpose", "")))
    for verb, done in (("reads", "read"), ("writes", "written"), ("exports", "exported")):
        if verb in facts:
            last = facts[f"last_{verb.removesuffix('s')}"]
            yield Line(done, moment(last["time"]))
            yield Line("", f"and {facts[verb] - 1:,} times before" if facts[verb] > 1 else "")
            yield Line("by", str(last.get("actor", "")))


def _run(facts: Mapping[str, Any]) -> Iterator[Line]:
    yield Line(
        "",
        " ".join(
            part for part in (str(facts.get("library", "")), str(facts.get("library_version", ""))) if part
        ),
    )
    yield Line(
        "run",
        short(facts.get("run_id")) if len(str(facts.get("run_id"))) > 40 else str(facts.get("run_id", "")),
        "digest",
    )
    state, took = str(facts.get("state", "")), duration(facts.get("duration_ns"))
    tone = "warning" if state in ("failed", "fail") else ""
    yield Line("", f"{state} in {took}" if took and state != "started" else state, tone)
    yield Line("error", str(facts.get("error_type", "")), "warning")
    yield Line("ended" if "ended" in facts else "began", moment(facts.get("ended") or facts.get("started")))
    if parameters := facts.get("best_parameters") or facts.get("parameters"):
        yield Line("best" if "best_parameters" in facts else "with", _values(parameters, _PARAMETERS))
    if "candidates" in facts:
        yield Line("tried", counted(facts["candidates"], "candidate"))
    yield Line("by", str(facts.get("actor", "")))


def _metrics(facts: Mapping[str, Any]) -> Iterator[Line]:
    metrics = facts.get("metrics", {})
    varying = facts.get("varying", ())
    if "best_score" in facts:
        yield Line("best score", number(facts["best_score"]))
    for name, value in list(metrics.items())[:_METRICS]:
        yield Line(name, number(value) + (" (last; it varies)" if name in varying else ""))
    if len(metrics) > _METRICS:
        yield Line("", f"and {len(metrics) - _METRICS} more metrics")
    if "rows" in facts:
        yield Line("on", _shape(facts))
    if facts.get("failed"):
        yield Line(
            "", f"{facts['failed']:,} of {counted(facts['evaluations'], 'evaluation')} failed", "warning"
        )
    elif facts.get("evaluations", 1) > 1:
        yield Line("", counted(facts["evaluations"], "evaluation"))
    yield Line("at", moment(facts.get("time")))


def _approval(facts: Mapping[str, Any]) -> Iterator[Line]:
    state = str(facts.get("state", ""))
    parts = {
        "current": "held now",
        "past": "no longer held",
        "removed": "removed",
        "refused": "not carried out",
    }
    yield Line("", parts.get(state, state), "warning" if state in ("removed", "refused") else "")
    history = facts.get("history", [])
    last = history[-1] if history else facts
    # Who set it is shown even where it was removed since.
    if before := last.get("before"):
        yield Line("instead of", str(before))
    yield Line("at", moment(last.get("time")))
    yield Line("by", str(last.get("actor", "")))
    yield Line("ticket", str(last.get("ticket", "")))
    yield Line("approver", str(last.get("approver", "")))
    if last.get("in_window") is False:
        yield Line("", "outside of a change window", "warning")
    yield Line("in", str(facts.get("registry", "")))
    if "stated_at" in facts:
        yield Line("stated by", str(facts["stated_at"]).removeprefix("audit.ml."))
    if len(history) > 1:
        yield Line("", f"after {counted(len(history) - 1, 'earlier change')}")


def _artifact(facts: Mapping[str, Any]) -> Iterator[Line]:
    yield Line("sha256", str(facts.get("digest", "")), "digest")
    yield Line("class", str(facts.get("model_class", "")).rpartition(".")[2])
    yield Line("file", str(facts.get("path", "")))
    yield Line("also", ", ".join(facts.get("also", ())))
    yield Line("made", moment(facts.get("made")))
    yield Line("by", str(facts.get("actor", "")))
    if previous := facts.get("previous_version"):
        yield Line("after", f"version {previous}")
    if deleted := facts.get("deleted"):
        yield Line("deleted", moment(deleted), "warning")


def _deployment(facts: Mapping[str, Any]) -> Iterator[Line]:
    state = str(facts.get("state", ""))
    if state == "replaced":
        state = f"replaced by version {facts.get('replaced_by', '?')}"
    yield Line(
        "", state if state not in ("unknown", "loaded") else "", "warning" if state == "failed" else ""
    )
    yield Line("since", moment(facts.get("since")))
    yield Line("until", moment(facts.get("until")))
    yield Line("because", str(facts.get("reason", "")))
    if before := facts.get("instead_of"):
        yield Line("instead of", f"version {before}")
    if "loads" in facts:
        yield Line("loaded", "once" if facts["loads"] == 1 else f"{facts['loads']:,} times")
        yield Line("last load", moment(facts["last_load"]))
    if facts.get("failed_loads"):
        yield Line("", f"{counted(facts['failed_loads'], 'load')} failed", "warning")
    if facts.get("registration") == "mismatch":
        yield Line("", "not the registered artifact", "warning")
    yield Line("ticket", str(facts.get("ticket", "")))


def _predictions(facts: Mapping[str, Any]) -> Iterator[Line]:
    yield Line("in", str(facts.get("service", "")))
    outcomes = facts.get("outcomes", {})
    for outcome, count in outcomes.items():
        if outcome != "success":
            yield Line(outcome, f"{count:,}", "warning" if outcome == "failure" else "")
    if "rows" in facts:
        yield Line("rows", number(facts["rows"]))
    yield Line("asked by", counted(facts.get("actors", 0), "actor"))
    yield Line("first", moment(facts.get("first")))
    yield Line("last", moment(facts.get("last")))


_OF: Final[Mapping[Stage, Callable[[Mapping[str, Any]], Iterable[Line]]]] = {
    Stage.DATA: _data,
    Stage.RUN: _run,
    Stage.METRICS: _metrics,
    Stage.APPROVAL: _approval,
    Stage.ARTIFACT: _artifact,
    Stage.DEPLOYMENT: _deployment,
    Stage.PREDICTIONS: _predictions,
}
