"""How estimators are described."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import VotingClassifier
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mlaudit.capture.models.estimators import (
    FOREIGN,
    MAX_PARAMETERS,
    MAX_TEXT,
    MODEL,
    PREPARATION,
    class_name,
    library,
    number,
    parameters,
    role,
    text,
)


def test_roles() -> None:
    """What predicts is a model, what only transforms prepares, and the rest is ignored."""
    assert role(LogisticRegression) == role(type(make_pipeline(StandardScaler()))) == MODEL
    assert role(StandardScaler) == role(ColumnTransformer) == PREPARATION
    assert role(dict) == role(type(None)) == FOREIGN


def test_class_names_are_the_public_ones() -> None:
    """A class is called as its users import it."""
    assert class_name(LogisticRegression) == "sklearn.linear_model.LogisticRegression"
    assert class_name(type(make_pipeline(StandardScaler()))) == "sklearn.pipeline.Pipeline"
    assert class_name(dict) == "builtins.dict"


def test_library_of_a_class_without_a_distribution() -> None:
    """A user's own module has a name and no version."""
    assert library(LogisticRegression)[0] == "scikit-learn"
    own = type("Own", (), {"__module__": "nobody.knows"})
    assert library(own) == ("nobody", "")


def test_nested_parameters_are_named_as_scikit_learn_names_them() -> None:
    """Every nested parameter has the key that set_params takes."""
    model = make_pipeline(
        ColumnTransformer(
            [("number", StandardScaler(), [0]), ("kind", OneHotEncoder(), [1]), ("rest", "drop", [2])]
        ),
        SelectFromModel(LogisticRegression(C=2.0)),
        VotingClassifier([("a", LogisticRegression(C=3.0))]),
    )
    found = parameters(model)
    assert found["columntransformer__number__with_mean"] == "True"
    assert (
        found["columntransformer__transformers"] == "number: StandardScaler, kind: OneHotEncoder, rest: drop"
    )
    assert found["selectfrommodel__estimator"] == "LogisticRegression"
    assert found["selectfrommodel__estimator__C"] == "2.0"
    assert found["votingclassifier__a__C"] == "3.0"
    assert set(found) <= set(model.get_params(deep=True))


def test_parameters_are_bounded() -> None:
    """An estimator with thousands of parameters does not make a record of thousands of fields."""
    wide = make_pipeline(*(StandardScaler() for _ in range(500)))
    assert len(parameters(wide)) <= MAX_PARAMETERS


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "None"),
        (True, "True"),
        (3, "3"),
        (0.1, "0.1"),
        (math.nan, "nan"),
        ("text", "text"),
        (np.float64(0.5), "0.5"),
        (Decimal("1.5"), "Decimal('1.5')"),
        (StandardScaler, "sklearn.preprocessing._data.StandardScaler"),
        (len, "builtins.len"),
        ([1, 2], "[1, 2]"),
    ],
)
def test_values_as_text(value: object, expected: str) -> None:
    """Plain values are recorded as they are written."""
    assert text(value) == expected


def test_data_is_told_by_shape_and_digest() -> None:
    """A parameter that holds data does not put the data into the record."""
    found = text(np.arange(6.0).reshape(2, 3))
    assert found.startswith("<2x3 float64 ")
    assert len(found) < 60


def test_long_values_are_cut() -> None:
    """No text is longer than the limit."""
    for value in ("x" * 10_000, list(range(10_000)), 10**9000):
        assert len(text(value)) <= MAX_TEXT


def test_numbers() -> None:
    """Metrics are floats; what is not finite is text; what is no number is nothing."""
    assert number(np.float32(0.5)) == 0.5
    assert number(np.array([2])) == 2.0
    assert number(math.inf) == "inf"
    assert number("0.5") is None
    assert number(np.arange(3)) is None
    assert number(None) is None
    assert number(10**400) is None
