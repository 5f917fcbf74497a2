"""Pipes, devices, links and files that never end, where a service reads a configuration or a model."""

from __future__ import annotations

import io
import os
import tracemalloc
from hashlib import sha256
from pathlib import Path

import pytest

from mlaudit.capture.models import artifact_files
from mlaudit.capture.process.config_files import ConfigWatcher
from mlaudit.errors import PolicyError
from mlaudit.pipeline.service_memory import Memory
from mlaudit.pipeline.shared_file import Remembered
from mlaudit.policy.load import load_policy
from mlaudit.testing import AuditLog, capture

KIND = "audit.ml.config.changed"
BIG = 64 << 20


def watch(log: AuditLog, path: Path) -> ConfigWatcher:
    """A watcher after its first poll."""
    watcher = ConfigWatcher(log.pipeline, settle_seconds=0.0)
    watcher.look(starting=True)
    return watcher


def test_a_pipe_in_a_watched_files_place_is_told_and_not_read(tmp_path: Path) -> None:
    """A FIFO does not stop the watcher; the trail records once that the file cannot be read."""
    path = tmp_path / "model.yaml"
    path.write_text("a: 1")
    with capture(env={"MLAUDIT_WATCH": str(path)}, instrument=False) as log:
        watcher = watch(log, path)
        path.unlink()
        os.mkfifo(path)
        watcher.look()
        watcher.look()
        (record,) = log.of(KIND)
        assert record["event.outcome"] == "failure"
        assert "not a regular file" in record["event.reason"]


def test_a_link_in_a_watched_files_place_is_followed_and_told(tmp_path: Path) -> None:
    """A file that becomes a link is a change; a link to a device is recorded as unreadable, and never read."""
    path = tmp_path / "model.json"
    path.write_text('{"threshold": 1}')
    with capture(env={"MLAUDIT_WATCH": str(path)}, instrument=False) as log:
        watcher = watch(log, path)
        (tmp_path / "other.json").write_text('{"threshold": 2}')
        path.unlink()
        path.symlink_to("other.json")
        watcher.look()
        path.unlink()
        path.symlink_to("/dev/zero")
        watcher.look()
        changed, unreadable = log.of(KIND)
        assert changed["ml.config.keys"] == ["threshold"]
        assert unreadable["event.outcome"] == "failure"


def test_a_huge_watched_file_is_digested_in_pieces(tmp_path: Path) -> None:
    """A change of a file of 64 MB is recorded by its digest, with a few megabytes of memory."""
    path = tmp_path / "huge.json"
    path.write_bytes(b"{}")
    with capture(env={"MLAUDIT_WATCH": str(path)}, instrument=False) as log:
        watcher = watch(log, path)
        with path.open("wb") as file:
            file.truncate(BIG)
        tracemalloc.start()
        try:
            watcher.look()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        (record,) = log.of(KIND)
        assert record["ml.config.after.digest"] == sha256(bytes(BIG)).hexdigest()
        assert "ml.config.keys" not in record
        assert peak < 16 << 20


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_model_file_that_is_none_is_left_to_its_loader(tmp_path: Path, kind: str) -> None:
    """Digesting a pipe or a device is refused at once, so that its content is left for the loader."""
    path = tmp_path / "model.joblib"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(OSError, match="not a regular file"):
        artifact_files.read(path)


def test_a_model_written_into_an_open_file_is_read_back_in_pieces(tmp_path: Path) -> None:
    """The digest is of exactly the bytes written, and they never stand in memory together."""
    with (tmp_path / "model").open("w+b") as file:
        file.write(b"before")
        file.truncate(6 + BIG)
        file.seek(6 + BIG)
        tracemalloc.start()
        try:
            found = artifact_files.read_back(file, 6)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (found.digest, found.size) == (sha256(bytes(BIG)).hexdigest(), BIG)
        assert file.tell() == 6 + BIG
        assert peak < 16 << 20
    memory = io.BytesIO(b"xxabcd")
    memory.seek(5)
    assert artifact_files.read_back(memory, 2).digest == sha256(b"abc").hexdigest()


def test_the_head_of_a_model_is_not_inflated_without_bound() -> None:
    """A compressed file that is a bomb shows its first bytes at most."""
    import zlib

    bomb = zlib.compress(bytes(BIG), 9)
    tracemalloc.start()
    try:
        artifact_files.first_class(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_an_endless_policy_file_is_a_fault() -> None:
    """A device in the policy's place is rejected for its size, not read forever."""
    with pytest.raises(PolicyError, match=r"expected (at most|UTF-8|a policy)|not YAML"):
        load_policy(Path("/dev/zero"))


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"\xff\xfe", b"", b"null", b'{"stream": {"id": []}}', b"1e999"]
)
def test_a_damaged_memory_costs_links_never_records(tmp_path: Path, content: bytes) -> None:
    """A damaged file of an earlier start does not stop the next one."""
    path = tmp_path / "services" / "s.json"
    path.parent.mkdir()
    path.write_bytes(content)
    memory = Memory(tmp_path, "s")
    assert memory.last_stream is None
    if content != b'{"stream": {"id": []}}':
        with pytest.raises(ValueError, match="expected a JSON object"):
            Remembered(path).read()
