"""Watched paths that the process opens, by the real calls."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlaudit.capture.process import audit_hooks
from mlaudit.capture.process.config_files import ConfigWatcher
from mlaudit.capture.process.watched_paths import WatchedPaths, how_opened
from mlaudit.catalog.names import RUNTIME_FILE_OPENED
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.testing import AuditLog, capture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

KIND = RUNTIME_FILE_OPENED


@pytest.fixture
def watching(tmp_path: Path) -> Callable[..., AbstractContextManager[AuditLog]]:
    """Watches what the test names, below its folder."""

    @contextmanager
    def start(*names: str) -> Iterator[AuditLog]:
        patterns = os.pathsep.join(str(tmp_path / name) for name in names)
        with capture(env={"MLAUDIT_WATCH": patterns}, instrument=False) as log:
            watcher = WatchedPaths()
            watcher.watch(log.pipeline)
            try:
                yield log
            finally:
                watcher.stop()
                audit_hooks.uninstall()

    return start


def test_open_of_a_watched_file_is_told(
    watching: Callable[..., AbstractContextManager[AuditLog]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Path, mode and the program's line are recorded, however the path is written; other files are silent."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "other.txt").write_text("x")
    with watching("model.bin") as log:
        (tmp_path / "model.bin").write_bytes(b"m")
        (tmp_path / "other.txt").read_text()
        monkeypatch.chdir(tmp_path / "sub")
        Path("../model.bin").read_bytes()
        with open(os.fsencode(tmp_path / "model.bin"), "ab"):  # noqa: PTH123 - bytes
            pass
        written, read, appended = log.of(KIND)
    assert [r["audit.runtime.detail"] for r in (written, read, appended)] == ["write", "read", "append"]
    assert {r["file.path"] for r in (written, read, appended)} == {str(tmp_path / "model.bin")}
    assert written["audit.target.id"] == str(tmp_path / "model.bin")
    assert read["code.function.name"] == "test_open_of_a_watched_file_is_told"
    assert read["event.outcome"] == "success"


def test_globs_match_as_in_the_policy(
    watching: Callable[..., AbstractContextManager[AuditLog]], tmp_path: Path
) -> None:
    """One star stays in a folder, two cross folders."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    with watching("*.key", "a/**") as log:
        for name in ("x.key", "a/y", "a/b/z", "x.txt"):
            (tmp_path / name).write_text("x")
        recorded = [Path(record["file.path"]).name for record in log.of(KIND)]
    assert recorded == ["x.key", "y", "z"]


def test_file_read_in_a_loop_makes_two_records(
    watching: Callable[..., AbstractContextManager[AuditLog]], tmp_path: Path
) -> None:
    """The first read is recorded, the rest with its count when the window or the process ends."""
    (tmp_path / "x.key").write_text("x")
    with watching("x.key") as log:
        for _ in range(500):
            (tmp_path / "x.key").read_text()
        assert len(log.of(KIND)) == 1
    assert [record.get("event.reason") for record in log.of(KIND)] == [
        None,
        "and 499 times more since the last record of it",
    ]


def test_attempt_that_cannot_succeed_is_a_failure(
    watching: Callable[..., AbstractContextManager[AuditLog]], tmp_path: Path
) -> None:
    """A file that is not there cannot be read; the program gets its own error."""
    with watching("missing.key") as log:
        with pytest.raises(FileNotFoundError):
            (tmp_path / "missing.key").read_text()
        (record,) = log.of(KIND)
    assert record["event.outcome"] == "failure"


def test_mlaudits_own_watcher_is_not_told(
    watching: Callable[..., AbstractContextManager[AuditLog]], tmp_path: Path
) -> None:
    """Looking whether a configuration file has changed is no access to it."""
    (tmp_path / "app.yaml").write_text("a: 1")
    with watching("app.yaml") as log:
        watcher = ConfigWatcher(log.pipeline, settle_seconds=0.0)
        watcher.look(starting=True)
        (tmp_path / "app.yaml").write_text("a: 22")
        watcher.look()
        assert [record["audit.runtime.detail"] for record in log.of(KIND)] == ["write"]
        assert len(log.of("audit.ml.config.changed")) == 1


@pytest.mark.parametrize(
    ("mode", "flags", "expected"),
    [
        ("r", 0, "read"),
        ("rb", 0, "read"),
        ("wb", 0, "write"),
        ("x", 0, "write"),
        ("a", 0, "append"),
        ("r+b", 0, "read and write"),
        (None, os.O_RDONLY | os.O_CLOEXEC, "read"),
        (None, os.O_WRONLY | os.O_CREAT, "write"),
        (None, os.O_WRONLY | os.O_APPEND, "append"),
        (None, os.O_RDWR, "read and write"),
        (None, None, "read"),
    ],
)
def test_mode(mode: str | None, flags: int | None, expected: str) -> None:
    """Modes of ``open`` and flags of ``os.open`` are said in words."""
    assert how_opened(mode, flags) == expected


def test_descriptors_are_open_already(
    watching: Callable[..., AbstractContextManager[AuditLog]], tmp_path: Path
) -> None:
    """Wrapping a descriptor opens nothing; ``os.open`` does."""
    with watching("x.key") as log:
        descriptor = os.open(tmp_path / "x.key", os.O_RDWR | os.O_CREAT)
        os.fdopen(descriptor, "w").close()
        assert [record["audit.runtime.detail"] for record in log.of(KIND)] == ["read and write"]


def test_nothing_to_watch_leaves_open_alone() -> None:
    """Without a watched path no file costs anything."""
    with capture(instrument=False) as log:
        WatchedPaths().watch(log.pipeline)
        assert "open" not in audit_hooks._handlers


def test_policy_names_what_is_watched_and_what_is_refused(tmp_path: Path) -> None:
    """``watch`` of the policy counts like the variable; with ``on_failure: refuse`` an unrecorded file stays shut."""
    policy = f"""
version: 1
revisions: [{{number: 1, date: 2026-11-25, changes: x, reason: y, sections: [3]}}]
watch: [{tmp_path}/*.key]
rules:
  - {{name: strict, match: {{kind: "audit.runtime.*"}}, level: metadata, on_failure: refuse}}
"""
    (tmp_path / "x.key").write_text("x")
    with capture(policy, instrument=False) as log:
        watcher = WatchedPaths()
        watcher.watch(log.pipeline)
        try:
            assert (tmp_path / "x.key").read_text() == "x"
            log.fail(SpoolUnavailableError("disk full"))
            with pytest.raises(AuditRefusedError):
                (tmp_path / "x.key").write_text("y")
            log.heal()
        finally:
            watcher.stop()
            audit_hooks.uninstall()
        assert (tmp_path / "x.key").read_text() == "x"
        assert [record["audit.runtime.detail"] for record in log.of(KIND)] == ["read"]


def test_fault_does_not_keep_the_file_closed(
    watching: Callable[..., AbstractContextManager[AuditLog]], tmp_path: Path
) -> None:
    """Arguments that nobody expected are a fault of ours alone."""
    with watching("x.key") as log:
        sys.audit("open", "only one")
        (tmp_path / "other").write_text("x")
        assert "ValueError" in log.of("audit.pipeline.failure")[0]["audit.failure.reason"]
