"""The lock of a file, between processes."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mlaudit.pipeline import shared_file
from mlaudit.pipeline.shared_file import Remembered
from mlaudit.safety import file_lock
from mlaudit.safety.file_lock import is_held, locked, remove_unheld, try_lock

HOLD = """
import sys
from pathlib import Path
from mlaudit.safety.file_lock import try_lock
descriptor = try_lock(Path(sys.argv[1]))
print(descriptor is not None, flush=True)
sys.stdin.read()
"""
COUNT = """
import sys
from pathlib import Path
from mlaudit.safety.file_lock import locked
lock, number = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(60):
    with locked(lock, 60):
        number.write_text(str(int(number.read_text()) + 1))
        lock.unlink()
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """The path of a lock."""
    return tmp_path / "lock"


def hold(lock: Path) -> subprocess.Popen[str]:
    """A process that holds the lock."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "True\n"
    return child


def open_descriptors() -> int:
    """How many this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_lock_excludes_other_processes_until_its_holder_dies(lock: Path) -> None:
    """A killed holder releases it, and leaves nothing to clean up."""
    with hold(lock) as child:
        assert try_lock(lock) is None
        assert is_held(lock)
        assert not remove_unheld(lock)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert not is_held(lock)
        descriptor = try_lock(lock)
        assert descriptor is not None
        os.close(descriptor)


def test_a_program_that_the_holder_starts_does_not_hold_it(lock: Path) -> None:
    """The lock ends with its holder, not with what the holder left running."""
    with locked(lock):
        child = subprocess.Popen(["sleep", "60"])
    try:
        assert not is_held(lock)
    finally:
        child.kill()
        child.wait()


def test_waiting_ends_when_the_lock_is_released(lock: Path) -> None:
    """Who waits is told once that it waits, and gets the lock soon after."""
    told: list[str] = []
    descriptor = try_lock(lock)
    assert descriptor is not None
    releasing = threading.Timer(0.2, os.close, [descriptor])
    releasing.start()
    begun = time.monotonic()
    with locked(lock, 30, lambda: told.append("waiting")):
        assert 0.1 < time.monotonic() - begun < 5
    releasing.join()
    assert told == ["waiting"]


@pytest.mark.parametrize("seconds", [0, 0.05])
def test_waiting_has_a_bound(lock: Path, seconds: float) -> None:
    """After it the wait is an error that names the lock, and no descriptor stays open."""
    with locked(lock):
        before = open_descriptors()
        with pytest.raises(TimeoutError, match="another process held") as caught, locked(lock, seconds):
            pytest.fail("two hold the lock")
        assert open_descriptors() == before
    assert caught.value.filename == lock


def test_the_lock_of_a_file_that_was_removed_counts_for_nothing(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening a file and locking it its holder may remove it: nobody else would see that lock."""
    original = fcntl.flock

    def removing(descriptor: int, operation: int) -> None:
        lock.unlink()
        original(descriptor, operation)

    before = open_descriptors()
    monkeypatch.setattr(file_lock.fcntl, "flock", removing)
    assert try_lock(lock) is None
    lock.touch()
    monkeypatch.setattr(
        file_lock.fcntl, "flock", lambda *given: (original(*given), lock.unlink(), lock.touch())
    )
    assert try_lock(lock) is None
    assert open_descriptors() == before


def test_a_file_system_without_locks_is_an_error_and_no_free_lock(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can be locked, nobody is taken for the holder, and nothing for dead."""

    def refusing(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    lock.touch()
    before = open_descriptors()
    monkeypatch.setattr(file_lock.fcntl, "flock", refusing)
    with pytest.raises(OSError, match="No locks available"):
        try_lock(lock)
    assert is_held(lock)
    assert not remove_unheld(lock)
    assert lock.exists()
    assert open_descriptors() == before


def test_no_update_is_lost_though_every_holder_removes_the_file(lock: Path, tmp_path: Path) -> None:
    """Processes that take, remove and make the lock again by turns never hold it two at a time."""
    number = tmp_path / "number"
    number.write_text("0")
    command = [sys.executable, "-c", COUNT, str(lock), str(number)]
    children = [subprocess.Popen(command) for _ in range(4)]
    assert [child.wait(60) for child in children] == [0] * 4
    assert number.read_text() == "240"


def test_a_stopped_process_does_not_stop_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service does not wait for ever for the memory that a stopped process of it holds."""
    monkeypatch.setattr(shared_file, "_LOCK_SECONDS", 0.05)
    memory = Remembered(tmp_path / "memory.json")
    with hold(tmp_path / "memory.lock") as child:
        child.send_signal(signal.SIGSTOP)
        with pytest.raises(OSError, match="another process held"), memory.exclusively():
            pytest.fail("two hold the memory")
        child.kill()
    with memory.exclusively() as content:
        content["a"] = 1
    assert memory.read() == {"a": 1}
