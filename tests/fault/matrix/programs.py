"""Other audited programs than the plain workload: ``python -m tests.fault.matrix.programs NAME NOTEBOOK COUNT``.

Each writes down what its calls returned, as the workload does.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from pathlib import Path

from tests.fault.matrix.workload import Emitter

_DURABLE_EVERY = 20
_RECORDS_PER_FIT = 50


def train(notebook: str, count: int, rate: str = "0") -> None:
    """Trains small models and records beside it; each fit that has returned is a line of ``NOTEBOOK.fits``."""
    from sklearn.tree import DecisionTreeClassifier

    emitter = Emitter(notebook, _DURABLE_EVERY, 0, float(rate))
    fits = os.open(f"{notebook}.fits", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    number = 0
    while not count or number < count:
        number = emitter.emit()
        if number % _RECORDS_PER_FIT == 0:
            DecisionTreeClassifier(max_depth=2).fit([[0.0], [1.0], [2.0]], [0, 1, number % 2])
            os.write(fits, b".")
        time.sleep(emitter.early(number))


def _child(notebook: str) -> None:
    Emitter(notebook, _DURABLE_EVERY, 0, 0.0).emit_until(0)


def parent(notebook: str, count: int, method: str) -> None:
    """Starts a child that emits without end, notes its id in ``NOTEBOOK.child``, and emits beside it.

    When the child is gone, the parent goes on until ``NOTEBOOK.over`` exists.
    """
    emitter = Emitter(notebook, _DURABLE_EVERY, 0, 2000.0)
    over = Path(f"{notebook}.over")
    emitter.emit()
    child = multiprocessing.get_context(method).Process(target=_child, args=(notebook,), daemon=True)
    child.start()
    Path(f"{notebook}.child").write_text(f"{child.pid}\n")
    while child.is_alive():
        number = emitter.emit()
        time.sleep(emitter.early(number))
    child.join()
    while not over.exists():
        emitter.emit()
        time.sleep(0.01)


def fork(notebook: str, count: int, method: str) -> None:
    """Emits a third, forks, and both processes emit a third; the child leaves by ``os._exit``."""
    emitter = Emitter(notebook, _DURABLE_EVERY, 0, 0.0)
    third = count // 3 + 1
    emitter.emit_until(third)
    child = os.fork()
    emitter.emit_until(2 * third)
    if not child:
        if method == "exit":
            sys.exit(0)
        os._exit(0)
    os.waitpid(child, 0)


if __name__ == "__main__":
    program, path, records, *rest = sys.argv[1:]
    {"train": train, "parent": parent, "fork": fork}[program](path, int(records), *rest)
