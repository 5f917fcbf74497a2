from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from tests.unit.deliver.spool.test_spool import BIG, fill, read_all

from mlaudit.deliver.spool import files, layout
from mlaudit.deliver.spool.retained import Retention
from mlaudit.deliver.spool.spool import StreamSpool
from mlaudit.errors import SpoolUnavailableError


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of a few frames."""
    monkeypatch.setattr("mlaudit.deliver.spool.spool.SEGMENT_BYTES", 2000)


def kept(spool: Path) -> list[int]:
    """The sequences of every retained frame."""
    return [
        frame.sequence
        for folder in layout.retained_streams(spool)
        for path in layout.segments(folder)
        for frame in files.read_frames(path)[0]
    ]


def test_delivered_records_stay_for_their_time(tmp_path: Path) -> None:
    """Acknowledged segments are retained whole, the newest when the stream ends, and expire by age."""
    spool = StreamSpool.create(tmp_path, "s", BIG, Retention(tmp_path, 3600, BIG))
    fill(spool, 1, 100)
    read_all(spool)
    (current,) = layout.segments(tmp_path / "s")
    assert kept(tmp_path) == list(range(1, layout.first_sequence(current)))
    spool.close(remove=True)
    assert not (tmp_path / "s").exists()
    assert kept(tmp_path) == list(range(1, 101))
    assert layout.streams(tmp_path) == []
    assert Retention(tmp_path, 3600, BIG).prune() == 0
    for path in layout.segments(layout.retained_folder(tmp_path) / "s")[:2]:
        os.utime(path, (time.time() - 3601, time.time() - 3601))
    assert Retention(tmp_path, 3600, BIG).prune() == 2
    assert 0 < len(kept(tmp_path)) < 100
    assert Retention(tmp_path, 0, BIG).prune() > 0
    assert layout.retained_streams(tmp_path) == []


def test_oldest_go_first_when_there_is_too_much(tmp_path: Path) -> None:
    """Retained bytes stay within their limit, and the newest segments are kept."""
    spool = StreamSpool.create(tmp_path, "s", BIG, Retention(tmp_path, 3600, 6000))
    fill(spool, 1, 200)
    read_all(spool)
    spool.close(remove=True)
    sequences = kept(tmp_path)
    assert sequences[-1] == 200
    assert sequences == list(range(sequences[0], 201))
    sizes = [path.stat().st_size for path in layout.segments(layout.retained_folder(tmp_path) / "s")]
    assert 2000 < sum(sizes) <= 6000


@pytest.mark.parametrize(("seconds", "size"), [(0, BIG), (3600, 0)])
def test_retention_can_be_off(tmp_path: Path, seconds: float, size: int) -> None:
    """With either limit at zero delivered segments are deleted at once."""
    spool = StreamSpool.create(tmp_path, "s", BIG, Retention(tmp_path, seconds, size))
    fill(spool, 1, 100)
    read_all(spool)
    spool.close(remove=True)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_kept_is_deleted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A retained folder that cannot be created blocks nothing: delivered segments are deleted, with a log."""
    layout.retained_folder(tmp_path).write_text("in the way")
    spool = StreamSpool.create(tmp_path, "s", BIG, Retention(tmp_path, 3600, BIG))
    fill(spool, 1, 100)
    assert read_all(spool) == list(range(1, 101))
    assert len(layout.segments(tmp_path / "s")) == 1
    assert "cannot be kept" in caplog.text
    spool.close(remove=True)


def test_retained_records_do_not_count_as_unsent(tmp_path: Path) -> None:
    """The spool's own limit counts unacknowledged bytes only, however much is retained."""
    spool = StreamSpool.create(tmp_path, "s", 64 << 10, Retention(tmp_path, 3600, BIG))
    for first in range(1, 2001, 100):
        fill(spool, first, first + 99)
        read_all(spool)
    assert len(kept(tmp_path)) > 1900
    assert spool.unsent_bytes == 0
    spool.close(remove=True)


def test_full_disk_takes_back_what_is_retained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write on a full disk deletes delivered segments and succeeds; without any it is refused."""
    room = [0]
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        if room[0] <= 0:
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    spool = StreamSpool.create(tmp_path, "s", BIG, Retention(tmp_path, 3600, BIG))
    fill(spool, 1, 100)
    read_all(spool)
    real_unlink = Path.unlink

    def unlink(self: Path, missing_ok: bool = False) -> None:
        room[0] += self.suffix == ".seg"
        real_unlink(self, missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        patched.setattr(Path, "unlink", unlink)
        spool.append(101, bytes(32), b"x" * 100, durable=False)
        room[0] = 0
        assert kept(tmp_path) == []
        with pytest.raises(SpoolUnavailableError, match="No space left"):
            spool.append(102, bytes(32), b"x" * 100, durable=False)
    fill(spool, 102, 103)
    assert read_all(spool) == [101, 102, 103]
    spool.close(remove=True)


def test_many_prune_at_once(tmp_path: Path) -> None:
    """Processes that retain and prune concurrently in one spool do not fail, and lose nothing unsent."""
    errors: list[BaseException] = []

    def run(name: str) -> None:
        try:
            retention = Retention(tmp_path, 3600, 8000)
            spool = StreamSpool.create(tmp_path, name, BIG, retention)
            for first in range(1, 301, 50):
                fill(spool, first, first + 49)
                assert read_all(spool) == list(range(first, first + 50))
                retention.prune()
            spool.close(remove=True)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(f"s{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert layout.streams(tmp_path) == []
    Retention(tmp_path, 3600, 8000).prune()
    assert 0 < sum(path.stat().st_size for path in layout.retained_folder(tmp_path).rglob("*.seg")) <= 8000
