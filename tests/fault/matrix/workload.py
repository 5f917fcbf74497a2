"""The audited program of most cells: emits records and writes down each id after the call has returned.

``python -m tests.fault.matrix.workload --acknowledge FILE …``. A line of FILE is a record id, or one of the two
marks below for a call that said that its record was not stored. Lines are written with O_APPEND, so that a kill
never leaves one that was not earned.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import threading
import time

LINE = 37
LOST = "-" * 36
REFUSED = "!" * 36
BUFFERED = "audit.ml.prediction"
DURABLE = "audit.ml.model.saved"


class Emitter:
    """Emits records, every so manieth durable, and notes what each call returned."""

    def __init__(self, path: str, durable_every: int, pad: int, rate: float, times: str = "") -> None:
        self._file = _appending(path)
        self._times = _appending(times) if times else 0
        self._durable_every = durable_every
        self._pad = "x" * pad
        self._rate = rate
        self._began = time.monotonic()
        self._numbers = itertools.count(1)
        self.stopping = threading.Event()

    def emit(self) -> int:
        """Emits one record; returns its number."""
        import mlaudit
        from mlaudit.errors import AuditRefusedError

        number = next(self._numbers)
        durable = self._durable_every and number % self._durable_every == 0
        try:
            record_id = mlaudit.record(
                DURABLE if durable else BUFFERED,
                target=("model", "fraud@3"),
                fields={"ml.model.name": "fraud", "ml.model.version": "3"},
                number=number,
                **({"pad": self._pad} if self._pad else {}),
            )
        except AuditRefusedError:
            record_id = REFUSED
        if self._times:
            os.write(self._times, b"%d\n" % time.monotonic_ns())
        os.write(self._file, f"{record_id or LOST}\n".encode())
        return number

    def early(self, number: int) -> float:
        """Seconds until the rate asks for the record after ``number``; 0 without a rate."""
        return max(0.0, self._began + number / self._rate - time.monotonic()) if self._rate else 0.0

    def emit_until(self, count: int) -> None:
        """Emits until about ``count`` records were emitted by all threads; without end when 0."""
        while not self.stopping.is_set():
            number = self.emit()
            if count and number >= count:
                return
            if (wait := self.early(number)) > 0.001:
                time.sleep(wait)

    async def emit_async(self, count: int) -> None:
        """As ``emit_until``, between other tasks."""
        while not self.stopping.is_set():
            number = self.emit()
            if count and number >= count:
                return
            await asyncio.sleep(self.early(number))


def _appending(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _give_up(problem: threading.ExceptHookArgs) -> None:
    threading.__excepthook__(problem)
    os._exit(70)  # a call that raises is a fault of its own, and nobody is to wait for the rest


async def _gather(emitter: Emitter, tasks: int, count: int) -> None:
    await asyncio.gather(*(emitter.emit_async(count) for _ in range(tasks)))


def main() -> None:
    """Emits as the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--acknowledge", required=True)
    parser.add_argument("--count", type=int, default=0, help="0: until killed")
    parser.add_argument("--durable-every", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--tasks", type=int, default=0, help="asyncio tasks in the main thread, beside the others"
    )
    parser.add_argument("--rate", type=float, default=0.0, help="records a second over all threads")
    parser.add_argument("--pad", type=int, default=0, help="characters added to each record")
    parser.add_argument("--times", default="", help="FILE for when each call returned; for one thread")
    arguments = parser.parse_args()
    threading.excepthook = _give_up
    emitter = Emitter(
        arguments.acknowledge, arguments.durable_every, arguments.pad, arguments.rate, arguments.times
    )
    emitter.emit()  # in the main thread, where signal handlers can be set
    others = arguments.threads - (0 if arguments.tasks else 1)
    threads = [threading.Thread(target=emitter.emit_until, args=(arguments.count,)) for _ in range(others)]
    for thread in threads:
        thread.start()
    if arguments.tasks:
        asyncio.run(_gather(emitter, arguments.tasks, arguments.count))
    else:
        emitter.emit_until(arguments.count)
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
