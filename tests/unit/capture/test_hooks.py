"""The hooks that every library integration is made of."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import pickle
import sys
import types
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest
import wrapt

from mlaudit.capture import hooks as module
from mlaudit.capture.hooks import SILENT, Audit, Call, Hooks, is_hook, refuse_unless_writable
from mlaudit.capture.nesting import inside
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.event import AuditEvent
from mlaudit.pipeline import current
from mlaudit.pipeline.pipeline import Pipeline
from mlaudit.testing import AuditLog, capture

KIND = "audit.app.library.called"
REFUSE = """
version: 1
revisions: [{number: 1, date: 2026-11-28, changes: first, reason: test, sections: [3]}]
rules:
  - {name: all, level: metadata, on_failure: refuse}
"""


def double(value: int) -> int:
    """What the library does."""
    if value < 0:
        raise ValueError("negative")
    return 2 * value


@pytest.fixture
def library() -> Iterator[Any]:
    """A library of a function, a coroutine and a class, imported under its own name."""
    module: Any = types.ModuleType("a_library")

    async def later(value: int) -> int:
        await asyncio.sleep(0)
        return double(value)

    class Model:
        def predict(self, value: int) -> int:
            return double(value)

        @classmethod
        def load(cls, value: int) -> tuple[type, int]:
            return cls, double(value)

        @staticmethod
        def scale(value: int) -> int:
            return double(value)

    module.double = types.FunctionType(double.__code__, vars(module), "double")
    module.double.__module__ = "a_library"
    module.later, module.Model = later, Model
    sys.modules["a_library"] = module
    yield module
    del sys.modules["a_library"]


def told(pipeline: Pipeline, call: Call) -> Audit:
    """Records every call."""
    outcome = yield
    fields = {"labels": {"value": str(call.argument(0, "value")), "result": str(outcome.result)}}
    pipeline.emit(AuditEvent(KIND, outcome.outcome, fields=fields))


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    """Hooks of the library, undone afterwards."""
    found = Hooks("capture.libraries.example")
    yield found
    found.undo()


@pytest.fixture
def log() -> Iterator[AuditLog]:
    """The records under the built-in policy."""
    with capture(instrument=False) as found:
        yield found


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        ("", "double", lambda library: library.double(4)),
        ("", "later", lambda library: asyncio.run(library.later(4))),
        ("Model", "predict", lambda library: library.Model().predict(4)),
        ("Model", "load", lambda library: library.Model.load(value=4)[1]),
        ("Model", "scale", lambda library: library.Model.scale(4)),
    ],
)
def test_every_kind_of_callable_is_hooked_and_given_back(
    library: Any, hooks: Hooks, log: AuditLog, owner: str, name: str, call: Any
) -> None:
    """The call gives what it gave before, is recorded once with its arguments, and after undo not at all."""
    place = getattr(library, owner) if owner else library
    before = vars(place)[name]
    assert hooks.around(place, name, told, kind=KIND)
    assert call(library) == 8
    (record,) = log.of(KIND)
    assert record["labels"]["value"] == "4"
    hooks.undo()
    assert vars(place)[name] is before
    assert call(library) == 8
    assert len(log.of(KIND)) == 1


def test_an_error_of_the_library_is_its_own(library: Any, hooks: Hooks, log: AuditLog) -> None:
    """It reaches the caller unchanged and the record as a failure."""
    hooks.around(library, "double", told, kind=KIND)
    with pytest.raises(ValueError, match="negative"):
        library.double(-1)
    assert [record["event.outcome"] for record in log.of(KIND)] == ["failure"]


def _early(pipeline: Pipeline, call: Call) -> Audit:
    raise RuntimeError("broken before")
    yield


def _late(pipeline: Pipeline, call: Call) -> Audit:
    yield
    raise RuntimeError("broken after")


def _twice(pipeline: Pipeline, call: Call) -> Audit:
    yield
    yield


@pytest.mark.parametrize("audit", [_early, _late, _twice])
def test_a_broken_audit_reaches_nobody_and_is_told(
    library: Any, hooks: Hooks, log: AuditLog, audit: Any
) -> None:
    """The call works, and its record is there, marked as failed."""
    hooks.around(library, "double", audit, kind=KIND)
    assert library.double(4) == 8
    (record,) = log.of(KIND)
    assert record["audit.failed"] is True
    assert record["audit.failure.reason"] == "capture.libraries.example: RuntimeError"


def test_a_broken_condition_reaches_nobody(library: Any, hooks: Hooks, log: AuditLog) -> None:
    """A ``when`` that raises costs the description, not the call."""
    hooks.around(library, "double", told, kind=KIND, when=lambda call: call.args[7] == 1)
    assert library.double(4) == 8
    assert [record["audit.failed"] for record in log.of(KIND)] == [True]


def test_a_call_that_is_left_alone_starts_no_pipeline(
    library: Any, hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process in which nothing happens that is audited leaves no trail."""
    asked: list[bool] = []
    monkeypatch.setattr(current, "pipeline", lambda: asked.append(True))
    hooks.around(library, "double", told, when=lambda call: call.args != (4,))
    assert (library.double(4), asked) == (8, [])
    assert (library.double(5), asked) == (10, [True])


def test_only_the_outermost_call_is_recorded(library: Any, hooks: Hooks, log: AuditLog) -> None:
    """What an audited call does inside belongs to its own record."""
    library.outer = lambda value: library.double(value)
    library.outer.__module__ = "a_library"
    hooks.around(library, "double", told, kind=KIND, outermost=True)
    hooks.around(library, "outer", told, kind=KIND, outermost=True)
    assert library.outer(4) == 8
    assert len(log.of(KIND)) == 1
    library.double(5)
    assert len(log.of(KIND)) == 2


def _guarded(pipeline: Pipeline, call: Call) -> Audit:
    refuse_unless_writable(pipeline, KIND, "a call")
    yield


def test_what_cannot_be_recorded_does_not_happen_when_the_policy_says_so(library: Any, hooks: Hooks) -> None:
    """Before the call a refusal stops it; after it, only where its result must not be given out."""
    with capture(REFUSE, instrument=False) as log:
        hooks.around(library, "double", _guarded, kind=KIND)
        log.fail(SpoolUnavailableError("full"))
        with pytest.raises(AuditRefusedError):
            library.double(4)
        hooks.undo()
        hooks.around(library, "double", told, kind=KIND)
        assert library.double(4) == 8
        hooks.undo()
        hooks.around(library, "double", told, kind=KIND, refuse_after=True)
        with pytest.raises(AuditRefusedError):
            library.double(4)
        log.heal()


def test_an_audit_may_pass_on_another_argument(library: Any, hooks: Hooks, log: AuditLog) -> None:
    """What the first half of an audit puts in an argument's place is what the library gets, however it was given."""

    def tripled(pipeline: Pipeline, call: Call) -> Audit:
        call.pass_on(0, "value", 3 * call.argument(0, "value"))
        yield

    hooks.around(library, "double", tripled)
    hooks.around(library, "later", tripled)
    hooks.around(library.Model, "predict", tripled)
    given = {"value": 1}
    assert library.double(1) == library.double(**given) == 6
    assert given == {"value": 1}
    assert asyncio.run(library.later(1)) == 6
    assert library.Model().predict(1) == library.Model().predict(value=1) == 6
    with pytest.raises(TypeError):
        library.Model.predict()


def test_a_hooked_function_still_pickles(library: Any, hooks: Hooks) -> None:
    """References to it lead to the same name of the same module."""
    hooks.around(library, "double", told, kind=KIND)
    assert pickle.loads(pickle.dumps(library.double)) is library.double


def test_a_function_may_be_hooked_under_one_name_only(library: Any, hooks: Hooks, log: AuditLog) -> None:
    """The module that defines it keeps its own, and a reference to the hook leads to the name that was hooked."""
    other: Any = types.ModuleType("a_package")
    other.double = library.double
    sys.modules["a_package"] = other
    assert hooks.around(other, "double", told, kind=KIND, only_here=True)
    assert library.double(1) == other.double(1) == 2
    assert len(log.of(KIND)) == 1
    assert pickle.loads(pickle.dumps(other.double)) is other.double
    del sys.modules["a_package"]


def test_a_name_that_is_not_there_is_left_alone(library: Any, hooks: Hooks) -> None:
    """A library of another version that lacks a function is no error."""
    assert not hooks.around(library, "triple", told)
    assert not hooks.are_set


def test_a_module_imported_later_is_hooked_then_and_not_after_undo(hooks: Hooks, log: AuditLog) -> None:
    """Work that waits for an import is done at it, contained, and dropped with the hooks."""
    seen: list[str] = []

    def work(module: Any) -> None:
        seen.append(module.__name__)
        raise RuntimeError("broken")

    hooks.when_imported("wave", work)
    sys.modules.pop("wave", None)
    __import__("wave")
    assert seen == ["wave"]
    hooks.when_imported("chunk_never", work)
    hooks.undo()
    assert not hooks.are_set


def test_an_audit_may_put_the_result_into_one_that_watches_it(library: Any) -> None:
    """The program gets what the audit made of it, unless the audit went wrong afterwards."""

    def watched(pipeline: Pipeline, call: Call) -> Audit:
        outcome = yield
        outcome.result = [outcome.result]
        if call.argument(0, "value") == 2:
            raise RuntimeError("broken on purpose")

    hooks = Hooks("capture.libraries.a_library")
    with capture(instrument=False):
        hooks.around(library, "double", watched)
        assert (library.double(1), library.double(2)) == ([2], 4)
        hooks.undo()


def test_calls_of_one_level_silence_each_other_and_no_others(library: Any) -> None:
    """A read of data inside of a model's call is the outermost read."""
    level: ContextVar[bool] = ContextVar("level", default=False)
    seen: list[str] = []

    def noted(pipeline: Pipeline, call: Call) -> Audit:
        seen.append(call.name)
        yield

    hooks = Hooks("capture.libraries.a_library")
    inner = library.double
    library.outer = lambda value: library.double(library.Model.scale(value))
    with capture(instrument=False):
        hooks.around(library, "outer", noted, outermost=True)
        hooks.around(library, "double", noted, outermost=True, level=level)
        hooks.around(library.Model, "scale", noted, outermost=True)
        assert library.outer(1) == 4
        hooks.undo()
    assert (seen, library.double) == (["outer", "double"], inner)


def test_a_method_that_another_instrumentation_wrapped_still_knows_its_instance(library: Any) -> None:
    """Wrapped with wrapt, as OpenTelemetry's instrumentations do it; before the hook and after it."""
    seen: list[Any] = []

    def noted(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        seen.append(instance)
        return wrapped(*args, **kwargs)

    def audited(pipeline: Pipeline, call: Call) -> Audit:
        seen.append(call.instance)
        yield

    hooks = Hooks("capture.libraries.a_library")
    model = library.Model()
    with capture(instrument=False):
        wrapt.wrap_function_wrapper(library.Model, "predict", noted)
        hooks.around(library.Model, "predict", audited)
        wrapt.wrap_function_wrapper(library.Model, "predict", noted)
        assert model.predict(2) == 4
        hooks.undo()
    assert seen == [model, model, model]


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_an_interrupt_is_an_outcome_like_any_error(
    library: Any, hooks: Hooks, log: AuditLog, ending: type[BaseException]
) -> None:
    """The audit gets it and the program too, from functions and from coroutines."""
    error = ending("stop")

    def stops(value: int) -> int:
        raise error

    async def later(value: int) -> int:
        raise error

    for name, function in (("stops", stops), ("later", later)):
        function.__module__ = "a_library"
        setattr(library, name, function)
        hooks.around(library, name, told, kind=KIND, outermost=True)
    with pytest.raises(ending) as caught:
        library.stops(4)
    assert caught.value is error
    with pytest.raises(ending):
        # Without a loop, which has its own way with interrupts.
        library.later(4).send(None)
    assert [record["event.outcome"] for record in log.of(KIND)] == ["failure", "failure"]
    assert not inside.get()


def _interrupted(pipeline: Pipeline, call: Call) -> Audit:
    raise KeyboardInterrupt
    yield


def _refused(pipeline: Pipeline, call: Call) -> Audit:
    raise AuditRefusedError("no")
    yield


@pytest.mark.parametrize("audit", [_early, _late, _twice, _interrupted, _refused])
def test_whatever_an_audit_raises_the_next_call_is_outermost(
    library: Any, hooks: Hooks, log: AuditLog, audit: Any
) -> None:
    """Before the call or after it, contained or not: nothing stays marked as inside."""
    hooks.around(library, "double", audit, outermost=True)
    for _ in range(2):
        try:
            assert library.double(4) == 8
        except (KeyboardInterrupt, AuditRefusedError):
            assert audit in (_interrupted, _refused)
        assert not inside.get()


def test_what_an_audit_asks_itself_is_not_recorded(library: Any, hooks: Hooks, log: AuditLog) -> None:
    """Calls of the same level that an audit makes, before or after, are not the program's."""

    def curious(pipeline: Pipeline, call: Call) -> Audit:
        library.double(1)
        outcome = yield
        library.double(2)
        pipeline.emit(AuditEvent(KIND, outcome.outcome))

    hooks.around(library, "double", curious, kind=KIND, outermost=True)
    assert library.double(4) == 8
    assert len(log.of(KIND)) == 1


def test_a_silent_call_leaves_no_record_and_silences_those_inside(
    library: Any, hooks: Hooks, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts no pipeline either; an error passes, and the next call is outermost again."""
    library.outer = lambda value: library.double(value)
    library.always = lambda value: library.double(value)
    hooks.around(library, "double", told, kind=KIND, outermost=True)
    hooks.around(
        library,
        "outer",
        told,
        kind=KIND,
        outermost=True,
        when=lambda call: SILENT if call.args[0] < 9 else True,
    )
    hooks.around(library, "always", None, outermost=True)
    with monkeypatch.context() as patch:
        patch.setattr(current, "pipeline", lambda: pytest.fail("asked for the pipeline"))
        assert (library.outer(4), library.always(4)) == (8, 8)
        with pytest.raises(ValueError, match="negative"):
            library.outer(-1)
    assert log.of(KIND) == []
    assert library.outer(9) == 18
    assert library.double(4) == 8
    assert len(log.of(KIND)) == 2


def test_a_coroutine_that_is_closed_elsewhere(library: Any, hooks: Hooks, log: AuditLog) -> None:
    """One that is dropped may be closed in another context: that is a failed call, and closing it raises nothing."""
    hooks.around(library, "later", told, kind=KIND, outermost=True)
    coroutine = library.later(4)
    contextvars.copy_context().run(coroutine.send, None)
    coroutine.close()
    assert [record["event.outcome"] for record in log.of(KIND)] == ["failure"]
    assert not inside.get()


def test_a_mark_is_not_copied(library: Any, hooks: Hooks) -> None:
    """Whatever wraps a hook is no hook itself, even where it copies all that is written on it."""
    hooks.around(library, "double", told, kind=KIND)

    @functools.wraps(library.double)
    def other(value: int) -> int:
        return value

    assert is_hook(library.double)
    assert not is_hook(other)


def test_the_method_of_a_descriptor_is_hooked_in_it(library: Any, hooks: Hooks, log: AuditLog) -> None:
    """The descriptor stays, and the call bears the method's name and knows its instance."""
    seen: list[tuple[str, Any]] = []

    class Conditional:
        def __init__(self, fn: Any) -> None:
            self.fn = fn

        def __get__(self, instance: Any, owner: Any) -> Any:
            return types.MethodType(self.fn, instance)

    def noted(pipeline: Pipeline, call: Call) -> Audit:
        seen.append((call.name, call.instance))
        yield

    original = library.Model.predict
    descriptor = library.Model.predict = Conditional(original)
    hooks.around(descriptor, "fn", noted, method="predict")
    model = library.Model()
    assert model.predict(2) == 4
    assert seen == [("predict", model)]
    hooks.undo()
    assert descriptor.fn is original


def test_an_audit_that_does_not_get_to_its_end_is_closed_at_once(
    library: Any, hooks: Hooks, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it set before the call is taken back with the call, not when the garbage collector comes."""
    closed: list[str] = []

    def watched(pipeline: Pipeline, call: Call) -> Audit:
        try:
            yield
        finally:
            closed.append(call.name)

    def broken(*_: Any) -> None:
        raise RuntimeError("broken on purpose")

    hooks.around(library, "double", watched, kind=KIND)
    monkeypatch.setattr(module, "finish", broken)
    gc.disable()
    try:
        assert library.double(4) == 8
        assert closed == ["double"]
    finally:
        gc.enable()
