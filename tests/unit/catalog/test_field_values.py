"""The valid values for each type of field."""

from __future__ import annotations

from typing import Any

import pytest

from mlaudit.catalog.field_values import fault_of
from mlaudit.catalog.model import Field


def _field(of: str, **flags: bool) -> Field:
    return Field.model_validate(
        {"type": of, "origin": "mlaudit", "sensitivity": "none", "meaning": "m", "example": None, **flags}
    )


@pytest.mark.parametrize(
    ("of", "value"),
    [
        ("keyword", "a"),
        ("long", 2**63 - 1),
        ("double", 1),
        ("double", 0.5),
        ("boolean", False),
        ("ip", "192.0.2.0"),
        ("ip", "2001:db8::"),
        ("date_nanos", "2026-11-25T03:30:00Z"),
        ("date_nanos", "2026-11-25T03:30:00.123456789Z"),
        ("flattened", {}),
        ("any", [[1.0]]),
    ],
)
def test_fitting_value_has_no_fault(of: str, value: Any) -> None:
    """A value of the field's type fits."""
    assert fault_of(_field(of), value) == ""


@pytest.mark.parametrize(
    ("of", "value"),
    [
        ("keyword", 1),
        ("keyword", None),
        ("keyword", ["a"]),
        ("long", 1.0),
        ("long", True),
        ("double", "1"),
        ("boolean", 0),
        ("ip", "192.0.2"),
        ("date_nanos", "2026-11-25T03:30:00"),
        ("date_nanos", "2026-11-25T03:30:00+01:00"),
        ("date_nanos", "2026-11-25T03:30:00.1234567890Z"),
        ("flattened", "a"),
        ("flattened", {1: "a"}),
    ],
)
def test_other_value_is_named_with_the_expected_type(of: str, value: Any) -> None:
    """A value of another type is reported with what was expected."""
    assert fault_of(_field(of), value).startswith(f"must be {of}, not ")


def test_null_fits_nothing() -> None:
    """Absent is absent: not even a field of any value takes null."""
    assert fault_of(_field("any"), None) == "must not be null"


def test_list_field_checks_each_value() -> None:
    """A list fits when each of its values does."""
    field = _field("ip", list=True)
    assert fault_of(field, ["192.0.2.1"]) == ""
    assert fault_of(field, ["192.0.2.1", "here"]) == "must be ip, not str 'here'"
    assert fault_of(field, "192.0.2.1").startswith("must be a list of ip, not ")
