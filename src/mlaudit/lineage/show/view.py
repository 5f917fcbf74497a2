"""Selects what of a lineage is shown: cards by stage, for the text and for the picture.

A large graph is summarised: nodes beside the chain, and nodes beyond a handful of cards, become one card that gives
their number and takes over their edges.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mlaudit.lineage.chain.nodes import Edge, Stage
from mlaudit.lineage.show.words import Line, lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlaudit.lineage.chain.nodes import Lineage, Node

ABSENT: Final = "absent"
MORE: Final = "more"
_MORE_RUNS: Final = "/more"
_CARDS: Final[Mapping[Stage, int]] = {
    Stage.DATA: 6,
    Stage.RUN: 10,
    Stage.METRICS: 6,
    Stage.APPROVAL: 6,
    Stage.ARTIFACT: 6,
    Stage.DEPLOYMENT: 8,
    Stage.PREDICTIONS: 8,
}
#: Child runs shown for a run on the chain; runs beside the chain are only counted.
_BELOW: Final = 3
#: Facts that are shortened in lines.
_WHOLE: Final = (
    "digest",
    "target_digest",
    "dataset_digest",
    "model_digest",
    "previous_digest",
    "run_id",
    "uri",
    "path",
    "model_class",
)


@dataclass(frozen=True, slots=True)
class Card:
    """A card to show.

    Attributes:
        id: of the node, or of the card itself.
        stage: its column.
        title: the first line.
        lines: its facts.
        status: ``seen``, ``named``, ``absent`` (nothing of the stage was found) or ``more`` (summarises others).
        depth: number of ancestor runs.
        detail: further lines for what does not fit: complete digests, the gap.
        records: kind and id of records behind it, oldest first; truncated when there are many.
        total: how many records are behind it.
        faults, unsealed: number of records behind it that differ from their originals, or that no process sealed.
    """

    id: str
    stage: Stage
    title: str
    lines: tuple[Line, ...] = ()
    status: str = "seen"
    depth: int = 0
    detail: tuple[str, ...] = ()
    records: tuple[tuple[str, str], ...] = ()
    total: int = 0
    faults: int = 0
    unsealed: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """Cards by stage, from top to bottom, and the edges between them."""

    columns: Mapping[Stage, tuple[Card, ...]]
    edges: tuple[Edge, ...]


def view(lineage: Lineage) -> View:
    """Selects what is shown of a lineage."""
    columns: dict[Stage, tuple[Card, ...]] = {}
    stands_for: dict[str, str] = {}
    for stage in Stage:
        if stage is Stage.RUN:
            cards = _runs(lineage, stands_for)
        else:
            nodes = lineage.of(stage)
            hidden = _of_hidden_runs(lineage, stands_for) if stage is Stage.METRICS else set()
            first = [node for node in nodes if node.id not in hidden] or nodes[:1]
            rest = [node for node in nodes if node.id in hidden and node not in first]
            cards = _plain(lineage, first, rest, stands_for)
        if not cards:
            text = next((gap.text for gap in lineage.gaps if gap.stage is stage), "nothing was found")
            cards = [Card(f"{stage}/absent", stage, "not recorded", (Line("", text),), ABSENT)]
        columns[stage] = tuple(cards)
    edges = {
        Edge(card.id.removesuffix(_MORE_RUNS), card.id, "part_of")
        for card in columns[Stage.RUN]
        if card.status == MORE and card.depth
    }
    for edge in lineage.edges:
        source, target = stands_for.get(edge.source, edge.source), stands_for.get(edge.target, edge.target)
        # Siblings are counted under their parent: their card needs no edges.
        if source and target and source != target:
            edges.add(Edge(source, target, edge.kind, edge.proven))
    for stage, before in ((Stage.METRICS, Stage.RUN), (Stage.PREDICTIONS, Stage.DEPLOYMENT)):
        columns[stage] = _beside(columns[stage], columns[before], edges)
    proven = {(edge.source, edge.target) for edge in edges if edge.proven}
    return View(
        columns,
        tuple(sorted(edge for edge in edges if edge.proven or (edge.source, edge.target) not in proven)),
    )


def _beside(cards: tuple[Card, ...], before: tuple[Card, ...], edges: set[Edge]) -> tuple[Card, ...]:
    """Nodes beside the chain, in the order of their predecessors, so that few edges cross."""
    places = {card.id: place for place, card in enumerate(before)}
    first = {card.id: len(before) for card in cards}
    for edge in edges:
        if edge.target in first and edge.source in places:
            first[edge.target] = min(first[edge.target], places[edge.source])
    return tuple(sorted(cards, key=lambda card: (card.status == MORE, first[card.id])))


def _of_hidden_runs(lineage: Lineage, stands_for: Mapping[str, str]) -> set[str]:
    """Metrics whose runs all have no card."""
    shown: dict[str, bool] = {}
    for edge in lineage.edges:
        if edge.kind == "measured" and edge.source.startswith("run/"):
            shown[edge.target] = shown.get(edge.target, False) or edge.source not in stands_for
    return {identity for identity, seen in shown.items() if not seen}


def _plain(
    lineage: Lineage, nodes: Sequence[Node], rest: Sequence[Node], stands_for: dict[str, str]
) -> list[Card]:
    """The nodes that fit, and one card for the rest."""
    if not nodes:
        return []
    stage = nodes[0].stage
    limit = _CARDS[stage]
    shown = nodes if len(nodes) + bool(rest) <= limit else nodes[: limit - 1]
    cards = [_card(lineage, node) for node in shown]
    if hidden := [*nodes[len(shown) :], *rest]:
        about = (Line("", "of runs that are summarised"),) if len(hidden) == len(rest) else ()
        more = Card(f"{stage}/more", stage, f"and {len(hidden):,} more", about, MORE)
        stands_for |= {node.id: more.id for node in hidden}
        cards.append(more)
    return cards


def _runs(lineage: Lineage, stands_for: dict[str, str]) -> list[Card]:
    """The runs as a tree: the chain first, runs beside it counted."""
    nodes = {node.id: node for node in lineage.of(Stage.RUN)}
    children: dict[str, list[str]] = defaultdict(list)
    has_parent = set()
    for edge in lineage.edges:
        if edge.kind == "part_of" and edge.target in nodes and edge.source in nodes:
            children[edge.source].append(edge.target)
            has_parent.add(edge.target)
    position = {identity: place for place, identity in enumerate(nodes)}
    makers = {edge.source for edge in lineage.edges if edge.kind == "made"}
    cards: list[Card] = []
    visited: set[str] = set()

    def below(identity: str, depth: int, *, own: bool) -> None:
        ordered = sorted(children[identity], key=lambda one: (one not in lineage.path, position[one]))
        found = [one for one in ordered if one not in visited]
        chain = [one for one in found if one in lineage.path]
        beside = [one for one in found if one not in lineage.path]
        kept = beside[:_BELOW] if own and len(beside) + lineage.more_runs.get(identity, 0) <= _BELOW else []
        for one in (*chain, *kept):
            show(one, depth, own=own or one in makers)
        hidden = [one for one in beside if one not in kept]
        count = len(hidden) + lineage.more_runs.get(identity, 0)
        if count:
            more = f"{identity}{_MORE_RUNS}"
            for one in hidden:
                # Data and metrics of a hidden run are attached to its parent.
                _hide(one, identity if own else "", children, stands_for, visited)
            cards.append(_more_card(more, [nodes[one] for one in hidden], count, depth, beside=bool(chain)))

    def show(identity: str, depth: int, *, own: bool) -> None:
        if identity in visited:
            return
        visited.add(identity)
        cards.append(_card(lineage, nodes[identity], depth))
        below(identity, depth + 1, own=own)

    roots = [one for one in nodes if one not in has_parent and one in lineage.path]
    # Runs that name each other as parents have no root: the first one is used.
    for identity in (*roots, *(one for one in nodes if one in lineage.path)):
        show(identity, 0, own=identity in makers)
    for identity in nodes:
        if identity not in visited and identity not in stands_for:
            stands_for[identity] = ""
    limit = _CARDS[Stage.RUN]
    if len(cards) > limit:
        kept, rest = cards[: limit - 1], cards[limit - 1 :]
        more = Card("run/more", Stage.RUN, f"and {len(rest):,} more", status=MORE)
        for card in rest:
            stands_for[card.id] = more.id
            stands_for |= {one: more.id for one, target in stands_for.items() if target == card.id}
        cards = [*kept, more]
    return cards


def _hide(
    identity: str,
    behind: str,
    children: Mapping[str, list[str]],
    stands_for: dict[str, str],
    visited: set[str],
) -> None:
    pending = [identity]
    while pending:
        if (one := pending.pop()) not in visited:
            visited.add(one)
            stands_for[one] = behind
            pending += children.get(one, ())


def _more_card(identity: str, hidden: Sequence[Node], count: int, depth: int, *, beside: bool) -> Card:
    trials = bool(hidden) and all("trial_number" in node.facts for node in hidden)
    noun = ("trial" if trials else "run") + ("" if count == 1 else "s")
    states = Counter(str(node.facts.get("state", "")) for node in hidden)
    states_text = ", ".join(f"{number:,} {state}" for state, number in states.most_common(3) if state)
    return Card(
        identity,
        Stage.RUN,
        f"and {count:,} more {noun}" if beside else f"{count:,} {noun}",
        (Line("", states_text),) if states_text else (),
        MORE,
        depth,
        records=tuple(record for node in hidden for record in _records(node)),
        total=sum(node.records for node in hidden),
    )


def _card(lineage: Lineage, node: Node, depth: int = 0) -> Card:
    return Card(
        node.id,
        node.stage,
        node.title,
        tuple(lines(node, _circumstantial(lineage, node))),
        node.status,
        depth,
        tuple(_detail(node)),
        tuple(_records(node)),
        node.records,
        node.faults,
        node.unsealed,
    )


def _circumstantial(lineage: Lineage, node: Node) -> bool:
    """Whether only circumstance links a data set to the chain."""
    own = [edge for edge in lineage.edges if edge.source == node.id]
    return node.stage is Stage.DATA and bool(own) and not any(edge.proven for edge in own)


def _detail(node: Node) -> Iterator[str]:
    for name in _WHOLE:
        if value := node.facts.get(name):
            yield f"{name.replace('_', ' ')}: {value}"
    if node.gap:
        yield node.gap


def _records(node: Node) -> Iterator[tuple[str, str]]:
    for one in node.evidence:
        yield one.kind, one.record_id
