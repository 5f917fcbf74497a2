"""Follows identifiers and digests through a trail, from one version of a model to everything that belongs to it.

Each step searches for what the records of the previous steps name. Every step has a limit: what lies beyond it is
counted or noted, never silently left out. Nothing is searched for twice, so records that name each other in a cycle
end the walk.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mlaudit.catalog.names import (
    DATA_READ,
    ML_DEPLOYMENT_REPLACED,
    ML_DEPLOYMENT_STARTED,
    ML_MODEL_LOADED,
    ML_MODEL_PROMOTED,
    ML_PREDICTION,
    ML_TRAINING_EVALUATED,
)
from mlaudit.lineage.ask import kinds
from mlaudit.lineage.ask.found import (
    DATA_DIGEST,
    DATA_NAME,
    DATA_URI,
    DIGEST,
    NAME,
    PARENT_ID,
    RUN_ID,
    SEQUENCE,
    STREAM,
    TARGET_DIGEST,
    VERSION,
    Found,
    family,
    is_ours,
)
from mlaudit.lineage.ask.trail import Ask, Match

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlaudit.lineage.ask.reference import Chosen
    from mlaudit.lineage.ask.trail import Record, Trail

ROUNDS: Final = 5
DEPTH: Final = 8
RUNS: Final = 300
CHILDREN: Final = 200
NEARBY: Final = 20
_BATCH: Final = 100
_LIMIT: Final = 500


def trace(trail: Trail, chosen: Chosen, since: str = "", until: str = "") -> Found:
    """Everything that belongs to the chosen version.

    Args:
        trail: where records are searched.
        chosen: see ``reference.choose``.
        since: leave out older loads and predictions (RFC 3339 in UTC); the model's origin is searched for at any time.
        until: leave out loads and predictions at or after this time.

    Raises:
        SourceError: the trail could not answer.
    """
    walk = _Walk(trail, Found(chosen, since=since, until=until))
    walk.artifacts()
    walk.deployments()
    walk.runs()
    walk.evaluations()
    walk.data()
    walk.uses()
    return walk.found


class _Walk:
    def __init__(self, trail: Trail, found: Found) -> None:
        self._trail = trail
        self.found = found

    def artifacts(self) -> None:
        """Records of the artifact's creation and approval, until nothing new is named."""
        found, chosen = self.found, self.found.chosen
        if chosen.digest:
            found.digests.add(chosen.digest)
        else:
            found.digests.update(*(one.digests for one in chosen.versions if one.version == chosen.version))
        for _ in range(ROUNDS):
            before = len(found.digests), len(found.identities)
            records = self._find((*kinds.ARTIFACT, ML_MODEL_PROMOTED), self._model(), "of the artifact")
            for record in records:
                if record.kind not in kinds.MADE or not record.succeeded:
                    continue
                name, version, digest = record.text(NAME), record.text(VERSION), record.text(DIGEST)
                if not chosen.digest and (name, version) == (chosen.name, chosen.version) and digest:
                    found.digests.add(digest)
                if (
                    digest in found.digests
                    and name
                    and version
                    and (name, version) != (chosen.name, chosen.version)
                ):
                    found.identities.add((name, version))
            if (len(found.digests), len(found.identities)) == before:
                break
        found.runs |= {record.text(RUN_ID) for record in found.of(kinds.MADE) if record.text(RUN_ID)}

    def deployments(self) -> None:
        """Deployment records of services, and what replaced it there."""
        found, chosen = self.found, self.found.chosen
        replaced: list[Match] = []
        if found.digests:
            replaced.append(Match((("ml.model.previous.digest", tuple(sorted(found.digests))),)))
        if chosen.version:
            named = ((NAME, (chosen.name,)), ("ml.model.previous.version", (chosen.version,)))
            replaced.append(Match(named, absent=("ml.model.previous.digest",)))
        self._find(kinds.DEPLOYMENTS, self._model(), "of deployments")
        self._find((ML_DEPLOYMENT_REPLACED,), replaced, "of deployments")
        ours = [
            record
            for record in found.of((ML_DEPLOYMENT_STARTED, ML_DEPLOYMENT_REPLACED))
            if is_ours(found, record)
        ]
        found.runs |= {record.text(RUN_ID) for record in ours if record.text(RUN_ID)}

    def runs(self) -> None:
        """The runs that made it, their ancestors and their descendants."""
        found = self.found
        known: set[str] = set()
        upwards = set(found.runs)
        for _ in range(DEPTH):
            wanted = upwards - known
            if not wanted or len(known) >= RUNS:
                break
            known |= wanted
            self._by_values(kinds.RUN_STARTS, RUN_ID, wanted, "of the starts of runs")
            self._by_values(kinds.RUN_ENDS, RUN_ID, wanted, "of the ends of runs")
            upwards = {
                record.text(PARENT_ID) for record in found.of(kinds.RUNS) if record.text(RUN_ID) in known
            }
            upwards.discard("")
        ancestors = set(known)
        below = set(found.runs)
        parents: set[str] = set()
        for depth in range(DEPTH):
            # First the siblings (trials that did not win), then the descendants of the model's own runs.
            asked = (ancestors | below if depth == 0 else below) - parents
            if not asked or len(known) >= RUNS:
                break
            parents |= asked
            children: set[str] = set()
            for parent in sorted(asked):
                names = self._children(parent)
                known |= names
                if parent in below:
                    children |= names
            below = children
        if len(known) >= RUNS:
            found.notes.append(f"more than {RUNS} runs belong to it; not all of them were read")

    def _children(self, parent: str) -> set[str]:
        found = self.found
        ask = Ask(kinds.RUNS, (Match(((PARENT_ID, (parent,)),)),), CHILDREN)
        page = self._trail.find(ask)
        self._take(page.records)
        names = {record.text(RUN_ID) for record in page.records if record.text(RUN_ID)} - {parent}
        if names:
            whole = page.total <= len(page.records)
            found.children[parent] = (
                len(names) if whole else max(self._trail.distinct(ask, RUN_ID), len(names))
            )
        # A child whose start is within the limit and whose end is beyond it would seem unfinished.
        if page.total > len(page.records):
            self._by_values(kinds.RUN_ENDS, RUN_ID, names, "of the ends of runs")
        return names

    def evaluations(self) -> None:
        """Evaluations of the artifact, of the runs that made it, and of their ancestors."""
        own = set.union(*family(self.found))
        matches = [*self._model(), *_any(RUN_ID, own), *_any(PARENT_ID, own)]
        self._find((ML_TRAINING_EVALUATED,), matches, "of evaluations")

    def data(self) -> None:
        """Accesses to the data that the runs and evaluations used."""
        found = self.found
        own = set.union(*family(self.found))
        given = [record for record in found.of(kinds.RUNS) if record.text(RUN_ID) in own]
        given += found.of((ML_TRAINING_EVALUATED,))
        digests = _values(given, DATA_DIGEST) | _values(given, TARGET_DIGEST)
        places = _values(given, DATA_URI) | _values(given, DATA_NAME)
        matches = [
            *_any(DATA_DIGEST, digests),
            *_any(RUN_ID, own),
            *_any(DATA_URI, places),
            *_any(DATA_NAME, places),
        ]
        self._find(kinds.DATA, matches, "of reading and writing data")
        self._nearby(given)

    def _nearby(self, given: Iterable[Record]) -> None:
        """What the process of a run read before the run ended; the run may have used some of it, or nothing."""
        found = self.found
        ends: dict[str, int] = {}
        for record in given:
            if record.kind in kinds.RUNS and record.text(RUN_ID) in found.runs and record.stream_id:
                ends[record.stream_id] = max(ends.get(record.stream_id, 0), record.sequence)
        matches = tuple(
            Match(((STREAM, (stream,)),), below=(SEQUENCE, sequence))
            for stream, sequence in sorted(ends.items())[:_BATCH]
        )
        if not matches:
            return
        page = self._trail.find(Ask((DATA_READ,), matches, NEARBY))
        found.nearby |= {record.id for record in page.records if record.id not in found.records}
        self._take(page.records)
        if page.total > len(page.records):
            found.notes.append(
                f"{page.total:,} reads came before the end of the run in its process; the newest {NEARBY} were "
                "looked at"
            )

    def uses(self) -> None:
        """How often it was loaded and used, by service."""
        found = self.found
        matches = tuple(self._model())
        if matches:
            window = Ask((ML_MODEL_LOADED,), matches, since=found.since, until=found.until)
            found.loads = self._trail.tallies(window)
            found.predictions = self._trail.tallies(replace(window, kinds=(ML_PREDICTION,)))

    def _model(self) -> list[Match]:
        """Records about the version, by digest or by name."""
        found, chosen = self.found, self.found.chosen
        matches = list(_any(DIGEST, found.digests))
        version = ((VERSION, (chosen.version,)),) if chosen.version else ()
        absent = () if chosen.version else (VERSION,)
        if chosen.digest:
            absent = (*absent, DIGEST)
        matches.append(Match(((NAME, (chosen.name,)), *version), absent=absent))
        matches += [
            Match(((NAME, (name,)), (VERSION, (number,))), absent=(DIGEST,))
            for name, number in sorted(found.identities)[:_BATCH]
        ]
        return matches

    def _by_values(self, among: tuple[str, ...], name: str, values: set[str], what: str) -> list[Record]:
        return self._find(among, list(_any(name, values)), what)

    def _find(self, among: tuple[str, ...], matches: list[Match], what: str) -> list[Record]:
        if not matches:
            return []
        page = self._trail.find(Ask(among, tuple(matches), _LIMIT))
        if page.total > len(page.records):
            note = f"{page.total:,} records {what} were found; the newest {len(page.records)} were read"
            if note not in self.found.notes:
                self.found.notes.append(note)
        self._take(page.records)
        return list(page.records)

    def _take(self, records: Iterable[Record]) -> None:
        for record in records:
            self.found.records.setdefault(record.id, record)


def _any(name: str, values: Iterable[str]) -> Iterable[Match]:
    ordered = sorted(value for value in values if value)
    for start in range(0, len(ordered), _BATCH):
        yield Match(((name, tuple(ordered[start : start + _BATCH])),))


def _values(records: Iterable[Record], name: str) -> set[str]:
    return {value for record in records if (value := record.text(name))}
