"""What there is to say about a kind of event, as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlaudit.catalog.model import Catalog


def describe(catalog: Catalog, kind: str) -> dict[str, Any]:
    """Everything about a kind, with its fields and a sample."""
    required, optional = catalog.fields_of(kind)
    return {
        "kind": kind,
        **catalog.kinds[kind].model_dump(
            mode="json", by_alias=True, exclude={"required", "optional", "sample"}
        ),
        "required": required,
        "optional": optional,
        "sample": catalog.sample_of(kind),
    }
