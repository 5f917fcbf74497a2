"""What the install command prints."""

from __future__ import annotations

import io

from rich.console import Console

from mlaudit.cli.install import show
from mlaudit.install.apply import Report
from mlaudit.install.plan import COMPONENT, LIFECYCLE, Change


def _shown(*changes: Change, dry_run: bool = False, missing: tuple[str, ...] = ()) -> str:
    output = io.StringIO()
    report = Report("https://es:9200", "9.2.0", "full", missing, dry_run, changes, ("mind [this]",))
    show(report, Console(file=output, soft_wrap=True))
    return output.getvalue()


def test_nothing_to_change_is_said() -> None:
    """A second run says that there is nothing to change, and how much was looked at."""
    assert "nothing to change: 1 are as they should be" in _shown(Change(COMPONENT, "a", "none"))


def test_dry_run_speaks_of_what_would_be() -> None:
    """A dry run never claims to have done anything."""
    text = _shown(Change(COMPONENT, "a", "update", ("~ x: 1 -> 2",)), dry_run=True)
    assert "would update component template a" in text
    assert "~ x: 1 -> 2" in text
    assert "nothing was changed" in text


def test_change_kept_policy_and_note_are_shown() -> None:
    """What was done, what was kept, and notes are each a line; brackets in names survive."""
    text = _shown(Change(COMPONENT, "a[b]", "create"), Change(LIFECYCLE, "c", "keep", ("~ d",)))
    assert "created component template a[b]" in text
    assert "kept lifecycle policy c" in text
    assert "note: mind [this]" in text
    assert "changed 1, left 1" in text


def test_many_differences_are_cut() -> None:
    """More than twenty differences are counted, not listed."""
    text = _shown(Change(COMPONENT, "a", "update", tuple(f"- line {n:02}" for n in range(25))))
    assert "line 19" in text
    assert "line 20" not in text
    assert "and 5 more" in text
