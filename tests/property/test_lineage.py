"""The lineage of any records in any order."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lineage_story import SCHEMA, lineage, tell
from tests.trail import Story

from mlaudit.catalog.names import ML_TRAINING_EVALUATED
from mlaudit.lineage.ask import kinds
from mlaudit.lineage.show.json_document import document
from mlaudit.lineage.show.svg import draw
from mlaudit.lineage.show.text import render

IDS = st.sampled_from(["a", "b", "c", "d", ""])
TEXTS = st.text(max_size=12)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "ml.model.version": st.sampled_from(["1", "2"]),
        "ml.model.digest": st.sampled_from(["0" * 64, "1" * 64]),
        "ml.training.run_id": IDS,
        "ml.training.parent_run_id": IDS,
        "ml.training.method": TEXTS,
        "ml.training.metrics": st.dictionaries(
            TEXTS, st.floats(allow_nan=False) | st.integers() | TEXTS, max_size=3
        ),
        "ml.training.trial.number": st.integers(),
        "ml.dataset.digest": IDS,
        "ml.dataset.name": TEXTS,
        "ml.dataset.uri": TEXTS,
        "ml.registry.alias": TEXTS,
        "ml.registry.before": IDS,
        "ml.registry.after": IDS,
        "ml.deployment.id": TEXTS,
        "ml.model.previous.version": st.sampled_from(["1", "2"]),
        "ml.change.ticket": TEXTS,
        "service.name": TEXTS,
    },
)
RECORDS = st.lists(
    st.tuples(st.sampled_from([*kinds.RUNS, ML_TRAINING_EVALUATED, *kinds.DATA, *kinds.NAMING]), FIELDS),
    max_size=25,
)


def story_of(records: list[tuple[str, dict[str, Any]]]) -> Story:
    """The records, and one that names the model."""
    story = Story()
    for kind, fields in records:
        story.tell(kind, **{"ml.model.name": "m", **fields})
    story.tell(
        "audit.ml.model.saved", **{"ml.model.name": "m", "ml.model.version": "1", "ml.training.run_id": "a"}
    )
    return story


@given(st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_order_of_records_does_not_matter(shuffle: random.Random) -> None:
    """The same records in any order are the same lineage, to the last word."""
    story = tell(6)
    told = json.dumps(document(lineage(story)))
    shuffle.shuffle(story.records)

    assert json.dumps(document(lineage(story))) == told


@given(RECORDS, st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_any_records_are_told(records: list[tuple[str, dict[str, Any]]], shuffle: random.Random) -> None:
    """Whatever records name each other how, the walk ends, every form can be made, and order does not matter."""
    story = story_of(records)
    told = lineage(story, "m")

    written = document(told)
    jsonschema.validate(written, SCHEMA)
    assert render(told)
    assert draw(told).isascii()
    known = {node.id for node in told.nodes}
    assert all(edge.source in known and edge.target in known for edge in told.edges)
    assert len(known) == len(told.nodes)
    shuffle.shuffle(story.records)
    assert document(lineage(story, "m")) == written
