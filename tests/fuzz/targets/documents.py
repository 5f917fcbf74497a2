"""Documents of any content as Elasticsearch returns them, under ``mlaudit verify``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.fuzz.choices import Choices
from tests.fuzz.targets.verify import prove
from tests.sealed import hit, make_stream

from mlaudit.verify.proof.stored import StoredRecord
from mlaudit.verify.sources.cluster_source import read_hit
from mlaudit.verify.sources.source import Remarks, Selection

_HITS = [hit(stored) for stored in make_stream(8, every=4)]
_OF_THE_STORE = (
    "event.original",
    "event.hash",
    "event.sequence",
    "audit.sequence.stream_id",
    "audit.sequence.number",
    "@timestamp",
)


class _Documents:
    """Hits without a cluster."""

    name = "documents"
    complete = True
    live = False

    def __init__(self, hits: list[dict[str, Any]]) -> None:
        self._hits = hits

    def read(self, selection: Selection, remarks: Remarks) -> Iterator[StoredRecord]:
        """See ``Source.read``."""
        for found in self._hits:
            yield read_hit(found)


def run(data: bytes) -> None:
    """Any of the documents may be altered, duplicated, missing, or forged."""
    choices = Choices(data)
    prove(_Documents([made for whole in _HITS for made in _made_of(whole, choices)]))


def _made_of(whole: dict[str, Any], choices: Choices) -> list[dict[str, Any]]:
    way = choices.below(8)
    source = dict(whole["_source"])
    if way == 1:
        return []
    if way == 2:
        return [whole, {**whole, "_id": choices.text()}]
    if way == 3:
        source[choices.pick(_OF_THE_STORE)] = choices.json()
    elif way == 4:
        source[choices.pick(sorted(source))] = choices.json()
    elif way == 5:
        del source[choices.pick(sorted(source))]
    elif way == 6:
        changed = choices.mutated(source["event.original"].encode("utf-8", "surrogatepass"))
        source["event.original"] = changed.decode("utf-8", "replace")
    elif way == 7:
        source = {choices.text(): choices.json() for _ in choices.some(5)}
    return [{**whole, "_source": source}]
