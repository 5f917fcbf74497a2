"""Watched configuration files: what a change leaves in the trail."""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from mlaudit.capture.process import config_files
from mlaudit.capture.process.config_files import ConfigWatcher
from mlaudit.catalog.names import ML_CONFIG_CHANGED
from mlaudit.testing import AuditLog, capture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KIND = ML_CONFIG_CHANGED


@contextmanager
def watching(pattern: Path | str, **env: str) -> Iterator[tuple[AuditLog, ConfigWatcher]]:
    """A watcher that has looked once, as at the start of a service."""
    with capture(env={"MLAUDIT_WATCH": str(pattern), **env}, instrument=False) as log:
        watcher = ConfigWatcher(log.pipeline, settle_seconds=0)
        watcher.look(starting=True)
        yield log, watcher


def sha256(text: str) -> str:
    """Of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def test_change_tells_digests_keys_and_values(tmp_path: Path) -> None:
    """A changed value is recorded with its key, before and after, and both digests."""
    path = tmp_path / "model.yaml"
    path.write_text("threshold: 0.5\nname: a\n")
    with watching(path, MLAUDIT_CHANGE_TICKET="CHG-1", MLAUDIT_CHANGE_APPROVER="bob") as (log, watcher):
        assert log.of(KIND) == []
        path.write_text("threshold: 0.75\nname: a\n")
        watcher.look()
        watcher.look()
    (record,) = log.of(KIND)
    assert record["ml.config.source"] == "file"
    assert record["ml.config.path"] == record["audit.target.id"] == str(path)
    assert record["ml.config.keys"] == ["threshold"]
    assert record["ml.config.changes"] == {"threshold": "0.5 -> 0.75"}
    assert record["ml.config.before.digest"] == sha256("threshold: 0.5\nname: a\n")
    assert record["ml.config.after.digest"] == sha256("threshold: 0.75\nname: a\n")
    assert record["ml.change.ticket"] == "CHG-1"
    assert record["ml.change.approver"].startswith("hmac:")
    assert record["ml.change.in_window"] is True
    assert record["audit.guarantee"] == "durable"


def test_secrets_in_a_changed_file_are_removed(tmp_path: Path) -> None:
    """A changed password is recorded as changed; neither of its values is anywhere, memory included."""
    path = tmp_path / "service.env"
    path.write_text("DB_PASSWORD=hunter2first\nURL=postgres://u:hunter2url@h/x")
    with watching(path) as (log, watcher):
        path.write_text("DB_PASSWORD=hunter2second\nURL=postgres://u:hunter2other@h/x")
        watcher.look()
        memory = "".join(file.read_text() for file in log.pipeline.settings.state_dir.rglob("*.json"))
    (record,) = log.of(KIND)
    assert record["ml.config.keys"] == ["DB_PASSWORD", "URL"]
    assert "hunter2" not in json.dumps(record) + memory


def test_touched_file_has_not_changed(tmp_path: Path) -> None:
    """A new time or inode with the same content is no change."""
    path = tmp_path / "a.json"
    path.write_text("{}")
    with watching(path) as (log, watcher):
        os.utime(path, (1, 1))
        watcher.look()
        (tmp_path / "b.json").write_text("{}")
        (tmp_path / "b.json").replace(path)
        watcher.look()
    assert log.of(KIND) == []


def test_files_appear_and_disappear(tmp_path: Path) -> None:
    """Files that come, go and come again under a glob are recorded each time, with what is known of them."""
    with watching(tmp_path / "*.json") as (log, watcher):
        path = tmp_path / "new.json"
        path.write_text("1")
        watcher.look()
        path.unlink()
        watcher.look()
        path.write_text("2")
        watcher.look()
    reasons = [record["event.reason"] for record in log.of(KIND)]
    assert reasons == ["the file appeared", "the file disappeared", "the file appeared"]
    assert "ml.config.before.digest" not in log.of(KIND)[0]
    assert "ml.config.after.digest" not in log.of(KIND)[1]


def test_change_while_nobody_watched_is_found_at_the_next_start(tmp_path: Path) -> None:
    """The next start records what changed meanwhile: which keys, and the new values, as the old were not kept."""
    path = tmp_path / "a.yaml"
    path.write_text("threshold: 0.5\nkeep: 1")
    with watching(path) as (log, _):
        path.write_text("threshold: 0.9\nkeep: 1")
        later = ConfigWatcher(log.pipeline)
        later.look(starting=True)
        (record,) = log.of(KIND)
        assert record["event.reason"] == "the file changed while the service was not running"
        assert record["ml.config.changes"] == {"threshold": "(not seen) -> 0.9"}
        path.unlink()
        ConfigWatcher(log.pipeline).look(starting=True)
        assert log.of(KIND)[1]["event.reason"] == "the file disappeared while the service was not running"


def test_workers_of_one_service_tell_a_change_once(tmp_path: Path) -> None:
    """Four workers watch the same file; its change is one record."""
    path = tmp_path / "a.yaml"
    path.write_text("a: 1")
    with watching(path) as (log, first):
        others = [ConfigWatcher(log.pipeline, settle_seconds=0) for _ in range(3)]
        for other in others:
            other.look(starting=True)
        path.write_text("a: 2")
        for watcher in (first, *others):
            watcher.look()
    assert len(log.of(KIND)) == 1


def test_unreadable_file_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be read is a failure on record, once; its later content is compared with the earlier."""
    path = tmp_path / "a.yaml"
    path.write_text("a: 1")
    with watching(path) as (log, watcher):
        original = config_files._mark

        def refuse(_: str) -> Any:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(config_files, "_mark", refuse)
        watcher.look()
        watcher.look()
        (record,) = log.of(KIND)
        assert record["event.outcome"] == "failure"
        assert record["error.type"] == "PermissionError"
        monkeypatch.setattr(config_files, "_mark", original)
        watcher.look()
        assert len(log.of(KIND)) == 1
        path.write_text("a: 2")
        watcher.look()
        assert log.of(KIND)[1]["ml.config.changes"] == {"a": "1 -> 2"}


def test_folder_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    """A path that is a folder is an unreadable file, not a crash of the watcher."""
    with watching(tmp_path) as (log, watcher):
        watcher.look()
    assert log.of(KIND)[0]["error.type"] == "IsADirectoryError"


def test_change_outside_of_the_window_is_marked(tmp_path: Path) -> None:
    """The record says whether the policy's change window was open."""
    path = tmp_path / "a.yaml"
    path.write_text("a: 1")
    today = time.strftime("%a", time.gmtime()).lower()
    other = "mon" if today in ("wed", "thu", "fri") else "thu"
    policy = f"""
version: 1
revisions: [{{number: 1, date: 2026-11-25, changes: first, reason: test, sections: [3]}}]
watch: ["{path}"]
change: {{windows: [{{days: [{other}], start: "10:00", end: "10:01", timezone: UTC}}]}}
rules: []
"""
    with capture(policy, instrument=False) as log:
        watcher = ConfigWatcher(log.pipeline, settle_seconds=0)
        watcher.look(starting=True)
        path.write_text("a: 2")
        watcher.look()
    assert log.of(KIND)[0]["ml.change.in_window"] is False


def test_thread_sees_a_change(tmp_path: Path) -> None:
    """Once started, the watcher looks by itself, and a last time when it is stopped."""
    path = tmp_path / "a.yaml"
    path.write_text("a: 1")
    with capture(env={"MLAUDIT_WATCH": str(path), "MLAUDIT_WATCH_SECONDS": "0.05"}, instrument=False) as log:
        watcher = ConfigWatcher(log.pipeline)
        watcher.start()
        path.write_text("a: 2")
        _until(lambda: len(log.of(KIND)) == 1)
        watcher.stop()
        assert watcher._thread is not None
        assert not watcher._thread.is_alive()


def test_file_that_is_being_written_is_looked_at_again(tmp_path: Path) -> None:
    """An editor that empties a file before it fills it makes one change, not two."""
    path = tmp_path / "a.yaml"
    path.write_text("a: 1")
    with capture(env={"MLAUDIT_WATCH": str(path)}, instrument=False) as log:
        watcher = ConfigWatcher(log.pipeline, settle_seconds=3600)
        watcher.look(starting=True)
        path.write_text("")
        watcher.look()
        path.write_text("a: 2")
        os.utime(path, (1, 1))
        watcher.look()
    (record,) = log.of(KIND)
    assert record["ml.config.changes"] == {"a": "1 -> 2"}


def test_file_that_is_always_being_written_is_told_too(tmp_path: Path) -> None:
    """Waiting for a file to settle has an end."""
    path = tmp_path / "a.yaml"
    path.write_text("a: 1")
    with capture(env={"MLAUDIT_WATCH": str(path)}, instrument=False) as log:
        watcher = ConfigWatcher(log.pipeline, settle_seconds=3600)
        watcher.look(starting=True)
        path.write_text("a: 2")
        for _ in range(config_files.MAX_DEFERRED):
            watcher.look()
        assert log.of(KIND) == []
        watcher.look()
        assert len(log.of(KIND)) == 1


def test_nothing_to_watch_starts_no_thread() -> None:
    """A service without watched files has no watcher thread."""
    with capture(instrument=False) as log:
        watcher = ConfigWatcher(log.pipeline)
        watcher.start()
        assert watcher._thread is None
        watcher.stop()


def test_broken_watcher_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault while looking is recorded in the trail, and the next look works."""
    path = tmp_path / "a.yaml"
    path.write_text("a: 1")
    with watching(path) as (log, watcher):
        path.write_text("a: 2")
        with monkeypatch.context() as broken:
            broken.setattr(config_files, "flat_keys", lambda *_: 1 / 0)
            watcher.look()
        assert "ZeroDivisionError" in log.of("audit.pipeline.failure")[0]["audit.failure.reason"]
        path.write_text("a: 3")
        watcher.look()
        assert len(log.of(KIND)) == 1


def _until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never came true"
        time.sleep(0.01)
