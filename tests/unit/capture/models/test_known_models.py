"""What is remembered about model objects, and for how long."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

from sklearn.linear_model import LogisticRegression

from mlaudit.capture.models import known_models
from mlaudit.capture.models.known_models import NOTHING, Known, lookup, remember

if TYPE_CHECKING:
    import pytest


def test_knowledge_ends_with_the_object() -> None:
    """Nothing keeps a model alive, and its id says nothing about a later object."""
    model = LogisticRegression()
    assert remember(model, Known("a"))
    key = id(model)
    assert lookup(model).name == "a"
    del model
    gc.collect()
    assert key not in known_models._models._entries


def test_objects_that_are_equal_are_not_the_same() -> None:
    """Knowledge goes by identity."""
    one, other = LogisticRegression(), LogisticRegression()
    remember(one, Known("a"))
    assert lookup(other) is NOTHING


def test_what_cannot_be_referred_to_weakly_is_not_known() -> None:
    """Numbers and texts are passed by."""
    assert remember(5, Known("a")) is False
    assert lookup(5) is NOTHING


def test_nothing_is_written_into_the_model() -> None:
    """The object is as before, so that saving it gives the same bytes."""
    model = LogisticRegression()
    before = dict(vars(model))
    remember(model, Known("a"))
    assert vars(model) == before


def test_listeners_hear_of_loaded_models_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener for loaded models gets each of them, with what is known of it, and once."""
    heard: list[str] = []
    monkeypatch.setattr(known_models, "_listeners", [])

    def listener(_model: Any, about: Known) -> None:
        heard.append(about.name)

    known_models.on_loaded(listener)
    known_models.on_loaded(listener)
    model = LogisticRegression()
    remember(model, Known(name="trained"))
    assert known_models.loaded(model, Known(name="loaded"))
    assert heard == ["loaded"]
    assert lookup(model).name == "loaded"
