"""The spool as a state machine: in any order of events it keeps its guarantees and invents nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.fault.powercut import Disk

from mlaudit.deliver.spool import files, layout
from mlaudit.deliver.spool import spool as spool_module
from mlaudit.deliver.spool.retained import Retention
from mlaudit.deliver.spool.spool import StreamSpool
from mlaudit.deliver.spool.syncing import SyncThread
from mlaudit.deliver.ticket import Ticket
from mlaudit.errors import SpoolFullError, SpoolUnavailableError

BOUND = 6000
SEGMENT = 600
STREAM = "s"
# In memory where that is possible: the fault layer tracks syncs, not the disk.
PLACE = "/dev/shm" if Path("/dev/shm").is_dir() else None


@contextlib.contextmanager
def failing(name: str, number: int) -> Iterator[None]:
    """A system call that fails."""
    real = getattr(os, name)

    def fail(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    setattr(os, name, fail)
    try:
        yield
    finally:
        setattr(os, name, real)


class SpoolMachine(RuleBasedStateMachine):
    """``frames`` is the model: the payload of every accepted sequence that must not be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="mlaudit-spool-", dir=PLACE))
        self.saved = spool_module.SEGMENT_BYTES, spool_module._RECENT_BYTES, SyncThread.start
        SyncThread.start = lambda thread: None  # type: ignore[method-assign]  # synced when the machine says so
        spool_module.SEGMENT_BYTES = SEGMENT
        self.frames: dict[int, bytes] = {}
        self.given_out: dict[int, bytes] = {}
        self.expired: set[int] = set()
        self.lost: set[int] = set()
        self.tickets: list[tuple[int, Ticket]] = []
        self.promised = 0
        self.acknowledged = 0
        self.turn = 0

    @initialize(kept_in_memory=st.sampled_from([0, 400, 1 << 20]))
    def begin(self, kept_in_memory: int) -> None:
        """A new stream."""
        spool_module._RECENT_BYTES = kept_in_memory
        self.enter_disk(self.home / "0")
        self.spool = StreamSpool.create(self.root, STREAM, BOUND, self.retention())

    def enter_disk(self, root: Path) -> None:
        root.mkdir(exist_ok=True)
        self.root = root
        self.disk = Disk(root)
        self.disk.__enter__()

    def retention(self) -> Retention:
        return Retention(self.root, 3600, 1 << 30)

    @property
    def last(self) -> int:
        return self.spool.last_sequence

    @rule(size=st.integers(0, 900), durable=st.booleans())
    def append(self, size: int, durable: bool) -> None:
        """A frame is stored, or refused because the limit is reached."""
        sequence = self.last + 1
        payload = random.Random(size * 1000 + sequence + self.turn).randbytes(size)
        data = len(files.frame(sequence, bytes(32), payload))
        fits = self.spool.unsent_bytes + data <= BOUND
        try:
            ticket = self.spool.append(sequence, sha256(payload).digest(), payload, durable=durable)
        except SpoolFullError:
            assert not fits
            return
        assert fits
        self.frames[sequence] = payload
        self.lost.discard(sequence)
        if durable:
            assert not ticket.done
            self.tickets.append((sequence, ticket))

    @rule(size=st.integers(0, 900), durable=st.booleans())
    def append_on_full_disk(self, size: int, durable: bool) -> None:
        """A full disk refuses, and no part of the frame is left."""
        if self.spool.unsent_bytes + size + files.HEADER_BYTES > BOUND:
            return
        retained = self.retained()
        before = self.last
        with failing("write", errno.ENOSPC):
            try:
                self.spool.append(before + 1, bytes(32), bytes(size), durable=durable)
            except SpoolUnavailableError:
                pass
            else:
                raise AssertionError("a full disk took a frame")
        assert self.last == before
        self.expired |= retained - self.retained()

    @rule()
    def sync(self) -> None:
        """A sync that works confirms everything before it."""
        assert self.spool.sync() or self.spool.synced_sequence < self.last
        self.settle()

    @rule(rewriting_fails=st.booleans())
    def sync_fails(self, rewriting_fails: bool) -> None:
        """A failed sync breaks no guarantee: frames are safe in another file, or their tickets fail."""
        self.spool._confirmation._doubts = {
            first: (begin, 0.0) for first, (begin, _) in self.spool._confirmation._doubts.items()
        }
        with (
            failing("fdatasync", errno.EIO),
            failing("fsync", errno.EIO) if rewriting_fails else contextlib.nullcontext(),
        ):
            self.spool.sync()
        self.settle()

    def settle(self) -> None:
        self.promised = max(self.promised, self.spool.synced_sequence)
        for sequence, ticket in self.tickets:
            assert ticket.done
            if ticket.ok:
                assert sequence <= self.promised or self.spool._confirmation.doubtful
        self.tickets.clear()

    @rule(max_bytes=st.integers(1, 4000), acknowledge=st.booleans())
    def read(self, max_bytes: int, acknowledge: bool) -> None:
        """Returned frames are synced, in order, and exactly the stored ones."""
        found, ack = self.spool.read(max_bytes)
        expected = [n for n in range(self.acknowledged + 1, self.last + 1) if n not in self.lost]
        assert [frame.sequence for frame in found] == expected[: len(found)]
        for frame in found:
            assert frame.sequence <= self.promised
            assert frame.payload == self.frames[frame.sequence]
            assert self.given_out.setdefault(frame.sequence, frame.payload) == frame.payload
        if not found:
            assert not [n for n in expected if n <= self.spool.synced_sequence]
        elif acknowledge:
            self.spool.acknowledge(ack)
            self.acknowledged = found[-1].sequence

    @rule()
    def killed(self) -> None:
        """After a kill every stored frame is present."""
        self.leave()
        self.adopt()
        assert self.last == max(self.frames, default=0)
        assert self.spool.acknowledged.sequence == self.acknowledged
        assert self.spool.damage == []

    @rule(seed=st.integers(0, 1 << 16), dice=st.booleans())
    def power_fails(self, seed: int, dice: bool) -> None:
        """After a power failure synced frames are present; others are present, counted, or at the end."""
        self.leave()
        self.turn += 1
        root = self.home / str(self.turn)
        self.disk.after_cut(len(self.disk.log), root, random.Random(seed) if dice else None)
        self.disk.__exit__()
        self.enter_disk(root)
        if not layout.streams(root):
            assert not self.promised
            self.spool = StreamSpool.create(root, STREAM, BOUND, self.retention())
            self.frames.clear()
            return
        promised = self.promised
        self.adopt()
        assert self.last >= max((n for n in range(1, promised + 1) if n in self.frames), default=0)
        self.acknowledged = self.spool.acknowledged.sequence
        stored = self.retained() | self.spooled()
        gone = {n for n in self.frames if n > promised and n not in stored}
        self.lost |= {n for n in gone if n < self.last}
        self.frames = {n: payload for n, payload in self.frames.items() if n not in gone}
        assert sum(damage.records for damage in self.spool.damage) >= len({n for n in gone if n < self.last})

    @precondition(lambda self: self.spool.unacknowledged)
    @rule(data=st.data())
    def damaged(self, data: st.DataObject) -> None:
        """A byte that changes in a dead process's spool costs the frame it is in, if that was not delivered."""
        self.leave()
        path = data.draw(
            st.sampled_from([p for p in layout.segments(self.root / STREAM) if p.stat().st_size])
        )
        raw = bytearray(path.read_bytes())
        place = data.draw(st.integers(0, len(raw) - 1))
        hit = next((frame.sequence for frame in files.parse_frames(bytes(raw)) if frame.end > place), 0)
        head = max(self.frames, default=0)
        delivered = max((n for n in self.given_out if n <= head), default=0)
        left = max((n for n in self.frames if n != hit), default=0)
        if hit > self.acknowledged and hit not in self.lost and left >= max(delivered, 1):
            descriptor = os.open(path, os.O_WRONLY)
            os.pwrite(descriptor, bytes([raw[place] ^ data.draw(st.integers(1, 255))]), place)
            os.fsync(descriptor)
            os.close(descriptor)
            del self.frames[hit]
            self.lost |= {hit} if hit < head else set()
        self.adopt()
        assert self.last == max(self.frames, default=0)
        self.promised = min(self.promised, self.last)

    @rule(count=st.integers(1, 3))
    def time_passes(self, count: int) -> None:
        """Expired segments are deleted."""
        before = self.retained()
        kept = [path for folder in layout.retained_streams(self.root) for path in layout.segments(folder)]
        for path in kept[:count]:
            os.utime(path, (0, 0))
        self.retention().prune()
        self.expired |= before - self.retained()

    def leave(self) -> None:
        """The state after a kill: nothing is closed, the lock is free."""
        self.spool.forget()
        self.tickets.clear()

    def adopt(self) -> None:
        spool = StreamSpool.adopt(self.root / STREAM, BOUND, self.retention())
        assert spool is not None
        self.spool = spool
        self.promised = max(self.promised, self.last)

    def retained(self) -> set[int]:
        return set().union(*(self.stored_in(folder) for folder in layout.retained_streams(self.root)))

    def spooled(self) -> set[int]:
        return self.stored_in(self.root / STREAM)

    def stored_in(self, folder: Path) -> set[int]:
        found = set()
        for path in layout.segments(folder):
            for piece in spool_module_pieces(path):
                found.add(piece.sequence)
        return found

    @invariant()
    def holds(self) -> None:
        """The limit, the order of positions, and the place of every stored frame."""
        if not hasattr(self, "spool"):
            return
        assert self.spool.unsent_bytes <= BOUND
        assert (
            self.spool.acknowledged.sequence == self.acknowledged <= self.spool.synced_sequence <= self.last
        )
        missing = set(self.frames) - self.retained() - self.spooled() - self.expired
        assert not missing

    def teardown(self) -> None:
        """At the end everything is returned, and retained for its time."""
        try:
            if hasattr(self, "spool"):
                self.spool._confirmation._doubts = {
                    f: (b, 0.0) for f, (b, _) in self.spool._confirmation._doubts.items()
                }
                self.spool.sync()
                self.settle()
                while self.spool.unacknowledged:
                    self.read(4000, True)
                assert set(self.frames) <= set(self.given_out)
                self.spool.close(remove=True)
                assert layout.streams(self.root) == []
                assert set(self.frames) <= self.retained() | self.expired
        finally:
            if hasattr(self, "disk"):
                self.disk.__exit__()
            spool_module.SEGMENT_BYTES, spool_module._RECENT_BYTES, SyncThread.start = self.saved
            shutil.rmtree(self.home)


def spool_module_pieces(path: Path) -> Iterator[files.Frame]:
    """The frames of a segment, also after damage."""
    from mlaudit.deliver.spool.frames import Frame, read_pieces

    for piece in read_pieces(path.read_bytes(), layout.first_sequence(path) - 1):
        if isinstance(piece, Frame):
            yield piece


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
