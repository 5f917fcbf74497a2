"""Which call is the outermost: what an audited call does inside belongs to its own record.

A pipeline fits its steps, a search fits hundreds of candidates, a forest asks its trees: one action of the user,
one record. The mark lives in a context variable, so threads and tasks do not disturb each other;
``joblib_context`` carries it into joblib's workers.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from mlaudit.capture.request_context import TrainingRun, current_actor, current_run
from mlaudit.event import Actor

inside: Final[ContextVar[bool]] = ContextVar("mlaudit_inside_library_call", default=False)

# A file that is written or read as a part of a larger artifact, e.g. of MLflow's folder: that one's record tells.
part_of_artifact: Final[ContextVar[bool]] = ContextVar("mlaudit_part_of_artifact", default=False)


class Carried(NamedTuple):
    """What a joblib worker must know of the call that gave it work; plain values, so that it pickles anywhere."""

    inside: bool
    actor: tuple[Any, ...] | None
    run: tuple[str, str] | None

    @classmethod
    def capture(cls) -> Carried | None:
        """What is set in this context; None when nothing is, which is the common case."""
        actor = current_actor.get()
        run = current_run.get()
        if not inside.get() and actor is None and run is None:
            return None
        return cls(
            inside.get(),
            None if actor is None else (actor.id, actor.type, actor.name, actor.roles, actor.method),
            None if run is None else (run.run_id, run.name),
        )

    def enter(self) -> None:
        """Sets it in this context; run it in a copy of the context (``contextvars.copy_context``)."""
        inside.set(self.inside)
        if self.actor is not None and current_actor.get() is None:
            current_actor.set(Actor(*self.actor))
        if self.run is not None and current_run.get() is None:
            current_run.set(TrainingRun(*self.run))
