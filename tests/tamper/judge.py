"""Plants tampers one at a time, verifies, undoes them, and judges whether each was reported correctly."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.tamper import kinds
from tests.tamper.file_stores import Archive
from tests.tamper.scene import Expected, Scene, Tamper
from tests.tamper.stores import Store

from mlaudit.errors import SourceError
from mlaudit.seal.checkpoint import VerifyingKey
from mlaudit.verify.proof.finding_codes import Finding
from mlaudit.verify.report import Report
from mlaudit.verify.verification import verify_source

# A successor that just started may still be closing its predecessor; these have started long ago.
LATER = timedelta(minutes=5)


@dataclass
class Row:
    """One line of the results."""

    n: int
    kind: str
    where: str
    stream: str
    sequence: int
    expected: list[str]
    found: list[str]
    named_rightly: bool
    seconds: float
    independent: bool | None = None


def verify(store: Store, keys: Mapping[str, VerifyingKey], tamper: Tamper | None = None) -> Report:
    """Verifies a whole store as it is now."""
    return verify_source(
        store.source(),
        keys,
        checkpoints=tamper.checkpoints if tamper else (),
        settle=0,
        now=datetime.now(UTC) + LATER,
    )


def draw(scene: Scene, kind: kinds.Kind) -> Tamper | None:
    """A tamper of a kind; None when it does not apply to this store, even after some tries."""
    for _ in range(20):
        tamper = kind(scene)
        if tamper is not None:
            return tamper
    return None


def plant(
    store: Store,
    tamper: Tamper,
    keys: Mapping[str, VerifyingKey],
    also: Callable[[], bool] | None = None,
) -> tuple[list[Finding], bool | None]:
    """Plants one tamper, verifies, and undoes it; returns the findings, and the other verifier's verdict."""
    if tamper.repeat_line is not None:
        assert isinstance(store, Archive)
        store.repeat_line(tamper.repeat_line)
    else:
        store.apply(tamper.edit)
    try:
        return list(verify(store, keys, tamper).findings), also() if also is not None else None
    except SourceError as error:
        return [Finding("source.damaged", str(error))], None
    finally:
        store.undo()


def named_rightly(expected: list[Expected], found: list[Finding]) -> bool:
    """Whether exactly the expected findings were reported, at their places, with the right record and fields."""
    left = list(found)
    for want in expected:
        match = next((finding for finding in left if _fits(want, finding)), None)
        if match is None:
            return False
        left.remove(match)
    return not left


def _fits(want: Expected, found: Finding) -> bool:
    return (
        found.code == want.code
        and found.stream_id == want.stream
        and found.sequence == want.sequence
        and found.through == want.through
        and (not want.record_id or found.record_id == want.record_id)
        and (not want.fields or found.fields == want.fields)
    )


def shown(item: Expected | Finding) -> str:
    """A finding in one line."""
    stream = item.stream if isinstance(item, Expected) else item.stream_id
    fields = f" {','.join(item.fields)}" if item.fields else ""
    record = f" record {item.record_id}" if item.record_id else ""
    return f"{item.code} {stream or '-'} {item.sequence}-{item.through}{fields}{record}"


def rows(
    scenes: Mapping[str, Scene],
    shares: Mapping[str, int],
    keys: Mapping[str, VerifyingKey],
    also: Callable[[Store, Tamper], bool | None] | None = None,
) -> Iterator[Row]:
    """Plants this number of tampers in each store, alternating the kinds."""
    number = 0
    for name, count in shares.items():
        scene = scenes[name]
        turns = sorted(kinds.kinds_of(name).items())
        scene.random.shuffle(turns)
        planted = 0
        while planted < count and turns:
            for kind, make in list(turns):
                if planted == count:
                    break
                tamper = draw(scene, make)
                if tamper is None:
                    turns.remove((kind, make))
                    continue
                planted += 1
                number += 1
                yield judged(scene, number, kind, tamper, keys, also)


def judged(
    scene: Scene,
    number: int,
    kind: str,
    tamper: Tamper,
    keys: Mapping[str, VerifyingKey],
    also: Callable[[Store, Tamper], bool | None] | None = None,
) -> Row:
    """Plants one tamper and writes its row."""
    began = time.monotonic()
    store = scene.store
    second: Any = None if also is None else lambda: also(store, tamper)
    found, independent = plant(store, tamper, keys, second)
    place = tamper.expected[0] if tamper.expected else Expected("", "")
    return Row(
        number,
        kind,
        store.name,
        place.stream,
        place.sequence,
        [shown(want) for want in tamper.expected],
        [shown(finding) for finding in found],
        named_rightly(tamper.expected, found),
        round(time.monotonic() - began, 3),
        independent,
    )


def by_kind(all_rows: list[Row]) -> dict[str, dict[str, int]]:
    """Number of tampers of each kind that were planted and reported correctly."""
    planted = Counter(row.kind for row in all_rows)
    right = Counter(row.kind for row in all_rows if row.named_rightly)
    return {kind: {"planted": planted[kind], "named_rightly": right[kind]} for kind in sorted(planted)}


def scene_of(store: Store, seed: int, signer: Any, stranger: Any) -> Scene:
    """A scene with its own random generator, so that stores do not affect each other's tampers."""
    return Scene(store, random.Random(f"{seed} {store.name}"), signer, stranger)
