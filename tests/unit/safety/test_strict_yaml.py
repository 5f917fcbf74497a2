"""The one reader of YAML."""

from __future__ import annotations

import time

import pytest
import yaml

from mlaudit.safety.strict_yaml import MAX_NODES, parse, parse_foreign


def faults(text: str, *, aliases: bool = False) -> list[str]:
    """Each with its line."""
    return [f"{line}: {fault}" for line, fault in parse(text, aliases=aliases).faults]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "3: a: duplicate key, first given in line 1"),
        ("a:\n  - {b: 1, b: 2}\n", "2: a[0].b: duplicate key, first given in line 2"),
        ("a: !!python/object/apply:os.system [x]\n", "1: a: tags are not supported"),
        ("a: &x [1]\nb: *x\n", "2: b: anchors and aliases are not supported"),
        ("? [1]\n: 2\n", "1: expected a text as key"),
        ("", "1: expected a mapping, found an empty file"),
        ("a: [", "1: not YAML: "),
        ("a: \x00\n", "1: not YAML: "),
        ("[" * 5000, "1: expected at most 32 levels of nesting, found more"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(text: str, expected: str) -> None:
    """Every fault has its line."""
    assert any(fault.startswith(expected) for fault in faults(text)), faults(text)


def test_aliases_that_are_accepted_are_written_out() -> None:
    """Each place has a value of its own, so that a change of one changes no other."""
    value = parse("a: &x {b: [1]}\nc: *x\n", aliases=True).value
    assert value == {"a": {"b": [1]}, "c": {"b": [1]}}
    assert value["a"] is not value["c"]


def test_an_alias_bomb_is_refused_where_aliases_are_accepted() -> None:
    """Ten lines that mean 10^10 values cost no more than the bound."""
    bomb = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
    )
    begun = time.perf_counter()
    found = faults(bomb, aliases=True)
    assert len(found) == 1
    assert f"expected at most {MAX_NODES:,} values" in found[0]
    assert time.perf_counter() - begun < 10


def test_an_alias_within_itself_ends() -> None:
    """A structure without an end is refused by its depth."""
    assert any("levels of nesting" in fault for fault in faults("a: &a [*a]\n", aliases=True))


def test_foreign_yaml_is_read_as_its_program_does() -> None:
    """Dates, aliases and duplicate keys are other people's choice; code in tags is not run."""
    assert parse_foreign("a: &x [on]\nb: *x\na: 1\n") == {"a": 1, "b": [True]}
    with pytest.raises(yaml.YAMLError):
        parse_foreign("!!python/object/apply:os.system [x]")
