"""Keys of configuration files, whatever their format."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mlaudit.capture.process.config_keys import MAX_BYTES, changed, flat_keys, value_text


@pytest.mark.parametrize(
    ("path", "content", "expected"),
    [
        ("a.yaml", "model: {threshold: 0.5}\nlist: [1, 2]", {"model.threshold": 0.5, "list": [1, 2]}),
        ("a.json", '{"a": {"b": [{"c": 1}]}}', {"a.b[0].c": 1}),
        ("a.toml", "[model]\nthreshold = 0.5", {"model.threshold": 0.5}),
        ("a.ini", "[model]\nthreshold = 0.5\n; no\n", {"model.threshold": "0.5"}),
        (".env", 'export A="1"\n# no\nB=2', {"A": "1", "B": "2"}),
        ("prod.env.local", "A=1", {"A": "1"}),
        ("a.properties", "model.threshold: 0.5", {"model.threshold": "0.5"}),
        ("a.json", "{}", {"(root)": {}}),
        ("a.yaml", "", {"(root)": None}),
    ],
)
def test_formats(path: str, content: str, expected: dict[str, object]) -> None:
    """Every usual format has flat, dotted keys."""
    assert flat_keys(path, content.encode()) == expected


LETTERS = "abcdefghij"
BOMB = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise(LETTERS)
)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("a.yaml", b"a: [1"),
        ("a.yaml", b"!!python/object/apply:os.system [echo]"),
        ("a.yaml", BOMB.encode()),
        ("a.json", b"\xff\xfe"),
        ("a.json", b"[" * 100_000),
        ("a.toml", b"= 1"),
        ("a.txt", b"a=1"),
        ("a.yaml", b"#" * (MAX_BYTES + 1)),
    ],
    ids=["cut off", "python tag", "bomb", "no text", "deep", "no toml", "no format", "huge"],
)
def test_what_has_no_keys(path: str, content: bytes) -> None:
    """Damaged, hostile, huge or free-form files have no keys; that they changed is known by their digest."""
    assert flat_keys(path, content) is None


def test_changed_keys() -> None:
    """Added, removed and different keys are changed; without both sides nothing can be said."""
    assert changed({"a": 1, "b": 1, "n": None}, {"a": 2, "c": 1}) == ["a", "b", "c", "n"]
    assert changed(None, {"a": 1}) == []


def test_values_as_text() -> None:
    """A value is shown as the file spells it, cut when it is long."""
    assert value_text({"a": 0.5}, "a") == "0.5"
    assert value_text({"a": "x" * 1000}, "a").endswith("…")
    assert value_text({}, "a") == "(absent)"
    assert value_text(None, "a", "(not seen)") == "(not seen)"
