"""The model registry."""

from __future__ import annotations

import pytest

from mlaudit.policy.model_registry import ModelRegistry, Registration

A, B, C = "a" * 64, "b" * 64, "c" * 64
REGISTRY = ModelRegistry([
    ("fraud-*", None, f"sha256:{A}"),
    ("fraud-2", None, f"sha256:{B}"),
    (None, "/models/*.joblib", f"sha256:{C}"),
    ("both", "/srv/**", f"sha256:{A}"),
])  # fmt: skip


@pytest.mark.parametrize(
    ("digest", "name", "path", "expected"),
    [
        (A, "fraud-1", "", Registration("match", A)),
        (f"sha256:{A.upper()}", "fraud-1", "", Registration("match", A)),
        (B, "fraud-1", "", Registration("mismatch", A)),
        (B, "fraud-2", "", Registration("match", B)),
        (C, "fraud-2", "/models/x.joblib", Registration("match", C)),
        (A, "", "/models/x.joblib", Registration("mismatch", C)),
        (A, "", "/models/deep/x.joblib", Registration("unregistered")),
        (A, "both", "", Registration("unregistered")),
        (A, "both", "/srv/a/b", Registration("match", A)),
        (A, "", "", Registration("unregistered")),
    ],
)
def test_an_artifact_is_compared_with_what_is_registered_for_it(
    digest: str, name: str, path: str, expected: Registration
) -> None:
    """Any entry that applies permits its digest; an entry with name and path needs both."""
    assert REGISTRY.lookup(digest, name=name, path=path) == expected


def test_an_empty_registry_knows_nothing() -> None:
    """Every model is unregistered."""
    assert ModelRegistry([]).lookup(A, name="x") == Registration("unregistered")
    assert len(ModelRegistry([])) == 0
