"""joblib's workers know which call they work for."""

from __future__ import annotations

import pickle
from typing import Any

import joblib
import pytest
from joblib.parallel import BatchedCalls

from mlaudit.capture.models import joblib_context
from mlaudit.capture.nesting import Carried, inside
from mlaudit.capture.request_context import TrainingRun, current_actor, current_run
from mlaudit.event import Actor


def context() -> tuple[bool, str, str]:
    """What a worker sees."""
    actor, run = current_actor.get(), current_run.get()
    return inside.get(), actor.id if actor else "", run.run_id if run else ""


@pytest.mark.parametrize("backend", ["threading", "sequential"])
def test_threads_see_the_context_of_the_call(auditing: Any, backend: str) -> None:
    """The caller of Parallel is the actor in its threads, and none is set afterwards."""
    with auditing():
        tokens = (inside.set(True), current_actor.set(Actor("alice")), current_run.set(TrainingRun("run-1")))
        try:
            work = (joblib.delayed(context)() for _ in range(20))
            seen = joblib.Parallel(n_jobs=2, backend=backend, batch_size=1)(work)
        finally:
            inside.reset(tokens[0])
            current_actor.reset(tokens[1])
            current_run.reset(tokens[2])
        assert set(seen) == {(True, "alice", "run-1")}
        assert set(
            joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(context)() for _ in range(4))
        ) == {(False, "", "")}


def test_batch_without_context_is_pickled_as_ever(auditing: Any) -> None:
    """Outside of audited calls nothing is added to what joblib sends."""
    with auditing():
        batch = BatchedCalls(iter([(context, (), {})]), (None, 1))
        assert len(batch.__reduce__()) == 2


def test_batch_with_context_is_plain_to_an_unaware_worker(auditing: Any) -> None:
    """The context is in the pickle as tuples and texts, so that a worker without mlaudit can read it."""
    with auditing():
        batch = BatchedCalls(iter([(len, ([],), {})]), (None, 1))
        batch._mlaudit_carried = tuple(Carried(True, ("alice", "user", None, (), "context"), ("run-1", "m")))
        content = pickle.dumps(batch)
        assert b"mlaudit.capture" not in content
        assert pickle.loads(content)._mlaudit_carried == batch._mlaudit_carried


def test_hooks_stay_until_the_last_user_removes_them() -> None:
    """Both integrations share the hooks."""
    original = BatchedCalls.__dict__["__call__"]
    users = set(joblib_context._users)
    joblib_context.install("one")
    joblib_context.install("other")
    joblib_context.remove("one")
    assert BatchedCalls.__dict__["__call__"].__module__ == "joblib.parallel"
    assert BatchedCalls.__dict__["__call__"] is not original or users
    joblib_context.remove("other")
    assert BatchedCalls.__dict__["__call__"] is original
