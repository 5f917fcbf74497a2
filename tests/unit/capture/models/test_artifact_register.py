"""The local register of model artifacts: versions, who made them, and how much of it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlaudit.capture.models import artifact_register
from mlaudit.capture.models.artifact_register import MATCH, MISMATCH, ArtifactRegister, Previous

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_versions_count_and_name_the_one_before(tmp_path: Path) -> None:
    """New content is a new version, with the one that it takes the place of; the same content is neither."""
    register = ArtifactRegister(tmp_path)
    assert register.last("/m") is None
    assert register.save("/m", "m", "a", "run-1") == ("1", None)
    assert register.save("/m", "m", "a", "run-1") == ("1", None)
    assert register.save("/m", "m", "b", "run-2") == ("2", Previous("1", "a", "run-1"))
    assert register.last("/m") == Previous("2", "b", "run-2")
    assert register.lookup("/m", "b") == (MATCH, "b", "2", "run-2")
    assert register.lookup("/m", "a").status == MISMATCH


def test_versions_that_somebody_else_numbers(tmp_path: Path) -> None:
    """A registry's own numbers are kept as they are."""
    register = ArtifactRegister(tmp_path)
    assert register.save("models:/m/7", "m", "a", "", "7") == ("7", None)
    assert register.lookup("models:/m/7", "a").version == "7"


def test_register_of_an_earlier_release(tmp_path: Path) -> None:
    """Entries without a run and without a time are read and replaced."""
    (tmp_path / artifact_register.FILE).write_text('{"/m": [{"digest": "a", "version": "1", "name": "m"}]}')
    register = ArtifactRegister(tmp_path)
    assert register.save("/m", "m", "b") == ("2", Previous("1", "a", ""))


def test_oldest_paths_give_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The register does not grow for ever: what was saved longest ago goes first."""
    monkeypatch.setattr(artifact_register, "KEPT_PATHS", 2)
    register = ArtifactRegister(tmp_path)
    for second, path in enumerate(("/b", "/a", "/c")):
        monkeypatch.setattr(artifact_register.time, "time", lambda second=second: 1000.0 + second)
        register.save(path, "m", path)
    assert register.last("/b") is None
    assert register.last("/a") is not None
    assert register.last("/c") is not None
