"""Decides which of several records with one sequence is genuine. Pure.

A party with write access to a store can add a second record for a sequence, or a whole branch at the end of a chain.
Two things identify the genuine record: the next record names its hash, and a valid signature names the hash of an
earlier record. So a conflict is decided at the next signature or at the end of the stream, by following the links
back from there. After the last signature, the branch that other records continue is preferred; when both are
continued, nothing shows which is genuine.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from mlaudit.seal.chain import GENESIS
from mlaudit.verify.proof import finding_codes as codes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlaudit.verify.proof.findings import Findings
    from mlaudit.verify.proof.stored import StoredRecord

# Limit of the places held during a conflict: more than lie between two checkpoints with any usual setting.
_HELD: Final = 8192

_Place = list["StoredRecord"]


class ConflictResolver:
    """Receives the records of one stream by sequence and passes on one record for each place.

    Args:
        findings: receives the findings about the rejected records.
        take: called with each chosen record, and the hash that the next record names for it; None when the next
            place is empty.
        covers: returns sequence and hash of the record that the valid signature in a record covers; None without
            keys.
        vouched: hashes by sequence that other streams, or checkpoints from outside the stream, confirm.
    """

    def __init__(
        self,
        findings: Findings,
        take: Callable[[StoredRecord, str | None], None],
        covers: Callable[[StoredRecord], tuple[int, str] | None] | None,
        vouched: Mapping[int, str],
    ) -> None:
        self._findings = findings
        self._take = take
        self._covers = covers
        self._vouched = dict(vouched)
        self._open: _Place = []
        self._region: list[_Place] = []
        self._contested = False
        self._rejected: dict[str, bool] = {}  # by hash: whether the decision was certain

    def add(self, record: StoredRecord) -> None:
        """Adds the next record; its place is that of the previous record or a later one."""
        place = self._open
        if place and record.sequence == place[0].sequence:
            self._share(place, record)
            return
        if place:
            self._complete(place)
        self._open = [record]

    def close(self) -> None:
        """Decides the remaining places, after the last record."""
        if self._open:
            self._complete(self._open)
        self._open = []
        self._resolve_end()

    def _share(self, place: _Place, record: StoredRecord) -> None:
        """Handles another record for a place: a copy, or a conflicting record."""
        for index, other in enumerate(place):
            if other.hash != record.hash:
                continue
            if other.claims.document_id == record.claims.document_id:
                if record.differences and not other.differences:
                    place[index], record = record, other
                self._findings.repeat(record)
                return
            if other.claims.document_id != other.record_id:
                place[index], record = record, other
            self._findings.add(
                codes.RECORD_REPLAYED,
                record,
                "the same original is stored again under another document id",
                expected=record.record_id,
                found=record.claims.document_id,
            )
            return
        place.append(record)

    def _complete(self, place: _Place) -> None:
        region = self._region
        if region and place[0].sequence != region[-1][0].sequence + 1:
            self._resolve_end()
            region = self._region
        elif region and not self._contested and len(place) == 1 and not self._rejected:
            self._take(region[0][0], place[0].previous_hash)
            region[0] = place
            return
        region.append(place)
        self._contested = self._contested or len(place) > 1 or bool(self._rejected)
        if self._contested:
            if len(region) >= _HELD:
                self._resolve_end()
            elif len(place) == 1 and (anchor := self._anchor(place[0])) >= 0:
                self._resolve(anchor)

    def _anchor(self, record: StoredRecord) -> int:
        """The index of the held place that the newest record confirms, or -1."""
        region = self._region
        if self._covers is not None:
            named = self._covers(record)
        elif len(region) > 2 and len(region[-2]) == 1 and region[-2][0].hash == record.previous_hash:
            named = (record.sequence - 1, record.previous_hash)
        else:
            named = None
        return -1 if named is None else self._place_of(*named)

    def _place_of(self, sequence: int, digest: str) -> int:
        index = sequence - self._region[0][0].sequence
        if 0 <= index < len(self._region) and any(record.hash == digest for record in self._region[index]):
            self._vouched[sequence] = digest
            return index
        return -1

    def _resolve_end(self) -> None:
        """Decides the held places without a later signature."""
        if not self._contested:
            for place in self._region:
                self._take(place[0], None)
            self._region = []
            return
        anchor = -1
        for place in self._region:
            for record in place:
                if self._covers is not None and (named := self._covers(record)) is not None:
                    anchor = max(anchor, self._place_of(*named))
        depths = _depths(self._region)
        chosen: list[StoredRecord | None] = [*self._choose_back(anchor, depths)]
        for place in self._region[anchor + 1 :]:
            chosen.append(self._choose_next(place, chosen[-1] if chosen else None, depths))
        self._hand_on(chosen)
        self._region = []
        self._contested = False

    def _resolve(self, anchor: int) -> None:
        """Decides the places up to the one that a signature confirms."""
        chosen = self._choose_back(anchor, _depths(self._region))
        last = chosen.pop()
        rest = self._region[anchor + 1 :]
        self._rejected.clear()
        self._contested = any(len(place) > 1 for place in rest)
        self._region = [[last]]
        self._hand_on([*chosen, last], more=True)
        if self._contested:
            self._region += rest
            return
        for place in rest:
            self._take(self._region[0][0], place[0].previous_hash)
            self._region = [place]

    def _choose_back(self, anchor: int, depths: Mapping[str, int]) -> list[StoredRecord]:
        """The genuine records up to the place ``anchor``, found by following the links back from it."""
        chosen: list[StoredRecord] = []
        behind: StoredRecord | None = None
        for place in reversed(self._region[: anchor + 1]):
            named = [record for record in place if behind and record.hash == behind.previous_hash]
            behind = self._best(named or place, depths)
            chosen.append(behind)
        chosen.reverse()
        for index, winner in enumerate(chosen):
            named_by = chosen[index + 1].previous_hash if index < anchor else ""
            for record in self._region[index]:
                if record is not winner:
                    known = named_by == winner.hash or self._vouched.get(winner.sequence) == winner.hash
                    self._reject(record, winner, decided=known or self._is_weaker(record, winner, depths))
        return chosen

    def _choose_next(
        self, place: _Place, before: StoredRecord | None, depths: Mapping[str, int]
    ) -> StoredRecord | None:
        """The record for a place after the last signature; None when all of them continue a rejected record."""
        head = before.hash if before is not None else GENESIS if place[0].sequence == 1 else ""
        linked = [record for record in place if record.previous_hash == head]
        others = [record for record in place if record.previous_hash not in self._rejected]
        winner = self._best(linked or others, depths) if linked or others else None
        for record in place:
            if record is not winner:
                decided = winner is None or self._is_weaker(record, winner, depths)
                self._reject(record, winner, decided=decided)
        return winner

    def _hand_on(self, chosen: Sequence[StoredRecord | None], *, more: bool = False) -> None:
        """Passes on the chosen records, without the last one when ``more`` follow."""
        for record, behind in pairwise([*chosen, *([] if more else [None])]):
            if record is not None:
                self._take(record, behind.previous_hash if behind is not None else None)

    def _is_weaker(self, record: StoredRecord, winner: StoredRecord, depths: Mapping[str, int]) -> bool:
        """Whether ``winner`` is certainly the genuine one of the two records."""
        if self._vouched.get(winner.sequence) == winner.hash:
            return True
        if self._is_signing(winner) != self._is_signing(record):
            return self._is_signing(winner)
        if record.previous_hash in self._rejected:
            return self._rejected[record.previous_hash]
        return depths[record.hash] == 1 and depths[winner.hash] > 1

    def _is_signing(self, record: StoredRecord) -> bool:
        return self._covers is not None and self._covers(record) is not None

    def _best(self, records: Sequence[StoredRecord], depths: Mapping[str, int]) -> StoredRecord:
        if len(records) == 1:
            return records[0]
        vouched = self._vouched.get(records[0].sequence)
        return max(
            records,
            key=lambda record: (
                record.hash == vouched,
                self._is_signing(record),
                depths[record.hash],
                not record.fault,
                record.plain,
            ),
        )

    def _reject(self, record: StoredRecord, winner: StoredRecord | None, *, decided: bool) -> None:
        self._rejected[record.hash] = decided
        expected = winner.hash if winner is not None else ""
        if decided:
            text = (
                "this record is not the one that the chain names"
                if winner is not None
                else "this record continues one that is not part of the chain"
            )
            self._findings.reject(record, text, expected=expected)
            return
        text = (
            "two records have this sequence and different contents; nothing after them shows which is genuine"
        )
        self._findings.add(codes.CHAIN_DUPLICATE, record, text, expected=expected, found=record.hash)


def _depths(region: Sequence[_Place]) -> dict[str, int]:
    """By hash of a record, the number of places over which the chain continues from it, itself included."""
    depths: dict[str, int] = {}
    behind: dict[str, int] = {}
    for place in reversed(region):
        here: dict[str, int] = {}
        for record in place:
            depths[record.hash] = 1 + behind.get(record.hash, 0)
            here[record.previous_hash] = max(here.get(record.previous_hash, 0), depths[record.hash])
        behind = here
    return depths
