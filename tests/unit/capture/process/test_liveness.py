"""The marks by which the processes of a service know of each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlaudit.capture.process.liveness import Mark, is_alive, sweep
from mlaudit.safety import file_lock

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_mark_lives_as_long_as_its_process_says(tmp_path: Path) -> None:
    """A mark that is held is alive; one that was dropped, or that nobody holds, is not, and goes."""
    mark, dead = Mark(tmp_path / "processes"), Mark(tmp_path / "processes")
    dead.leave()
    folder = tmp_path / "processes"
    assert is_alive(folder, mark.name)
    assert not is_alive(folder, dead.name)
    assert not is_alive(folder, "unheard-of")
    assert [path.name for path in folder.iterdir()] == [mark.name]
    mark.drop()
    assert not is_alive(folder, mark.name)


def test_sweep_takes_only_what_is_dead(tmp_path: Path) -> None:
    """What killed processes left is taken away, what lives stays; a folder that is not there is no fault."""
    sweep(tmp_path / "nowhere")
    mark, dead = Mark(tmp_path), Mark(tmp_path)
    dead.leave()
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [mark.name]
    mark.drop()


def test_mark_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between making a mark and locking it another process may take it for dead: then there is another."""
    original = file_lock.fcntl.flock
    swept: list[str] = []

    def sweeping(descriptor: int, operation: int) -> None:
        if not swept:
            swept.extend(path.name for path in tmp_path.iterdir())
            (tmp_path / swept[0]).unlink()
        original(descriptor, operation)

    monkeypatch.setattr(file_lock.fcntl, "flock", sweeping)
    mark = Mark(tmp_path)
    assert mark.name not in swept
    assert is_alive(tmp_path, mark.name)
    mark.drop()
