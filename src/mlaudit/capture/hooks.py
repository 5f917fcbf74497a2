"""Hooks around the calls of a library: one way to set them, and the one place where their faults are contained.

What is audited is written as a generator. What stands before its one ``yield`` runs before the library's call, what
stands behind it runs after it and knows how it ended::

    def _saved(pipeline: Pipeline, call: Call) -> Audit:
        path = call.argument(1, "path")
        outcome = yield
        pipeline.emit(...)

    hooks = Hooks("capture.libraries.example")
    hooks.around(example, "save", _saved, kind="audit.ml.model.saved")

The library's own result and errors pass through untouched, interrupts and exits included, which an audit gets like any
other error. Whatever an audit raises is recorded as a fault and stays out of the program, except ``AuditRefusedError``
before the call, where the policy says that what cannot be recorded must not happen. After the call it is raised only
for hooks set with ``refuse_after``: what such a call gives (data, a prediction) must not be given out unrecorded;
everywhere else the work is done, and the pipeline has counted.
"""

from __future__ import annotations

import functools
import inspect
import sys
import time
import weakref
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import wrapt

from mlaudit.capture.nesting import inside
from mlaudit.errors import AuditRefusedError
from mlaudit.event import FAILURE, SUCCESS, UNKNOWN
from mlaudit.pipeline import current

if TYPE_CHECKING:
    from contextvars import ContextVar, Token

    from mlaudit.pipeline.pipeline import Pipeline


@dataclass(slots=True)
class Call:
    """One call of a hooked function; ``instance`` is None for a plain function, the class for a class method.

    The library gets ``args`` and ``kwargs`` as they are when the first half of the audit is over.
    """

    name: str
    instance: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """The argument at ``position`` (without the instance), or called ``name``."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    def pass_on(self, position: int, name: str, value: Any) -> None:
        """Gives the library another argument at ``position`` (without the instance), or called ``name``.

        For a callback or a function that must be watched while the call runs; what the program sees must not change.
        """
        if len(self.args) > position:
            self.args = (*self.args[:position], value, *self.args[position + 1 :])
        else:
            self.kwargs = {**self.kwargs, name: value}


@dataclass(slots=True)
class Outcome:
    """How a call ended: ``error`` is None where it returned ``result``; ``duration`` in nanoseconds.

    The program gets ``result`` as it is when the audit is over: an iterator may be put into one that watches it.
    """

    result: Any
    error: BaseException | None
    duration: int

    @property
    def outcome(self) -> str:
        """As ``event.outcome`` says it."""
        return SUCCESS if self.error is None else FAILURE


Audit = Generator[None, Outcome, None]
MakeAudit = Callable[["Pipeline", Call], Audit]
# A call that leaves no record, and silences those inside of it like one that does.
SILENT: Final = "silent"
When = Callable[[Call], bool | Literal["silent"]]
# Not a mark on the wrapper: functools.wraps would copy it onto whatever wraps the wrapper, or is written in its stead.
_wrappers: Final[weakref.WeakSet[Any]] = weakref.WeakSet()


class Hooks:
    """The hooks of one integration; ``undo`` takes them out in reverse order.

    Args:
        component: names the integration in records of faults, e.g. ``capture.libraries.optuna``.
    """

    def __init__(self, component: str) -> None:
        self.component = component
        self._undo: list[Callable[[], None]] = []
        self._set = False

    @property
    def are_set(self) -> bool:
        """Whether anything is hooked."""
        return self._set

    def around(
        self,
        owner: Any,
        name: str,
        audit: MakeAudit | None,
        *,
        kind: str = "",
        outermost: bool = False,
        refuse_after: bool = False,
        when: When | None = None,
        only_here: bool = False,
        level: ContextVar[bool] = inside,
        method: str = "",
    ) -> bool:
        """Hooks the function or method ``name`` of a module or class; False when it has none of that name.

        A function of a module is replaced in the module that defines it as well, so that references to it still pickle.

        Args:
            owner: module or class.
            name: attribute of it.
            audit: makes the generator, see the module; None where every call is ``SILENT``.
            kind: the kind of event that a fault takes the place of, "" for none.
            outermost: silent inside of another such call (see ``outermost``), and silences those inside of it.
            refuse_after: see the module.
            when: leaves calls alone for which it is false, and records none for which it is ``SILENT``; must be cheap,
                and is contained like an audit.
            only_here: not in the module that defines it, where the library itself calls it by that name.
            level: what ``outermost`` counts: calls of models by default.
            method: where ``owner`` is a descriptor that keeps a method's function as ``name``: the method's own name.
        """
        found = inspect.getattr_static(owner, name, None)
        function = found.__func__ if isinstance(found, staticmethod | classmethod) else found
        if function is None or not callable(function) or is_hook(function):
            return False
        of_class = inspect.isclass(owner)
        bound = bool(method) or (of_class and not isinstance(found, staticmethod))
        counted = level if outermost else None
        hook = _Hook(self.component, method or name, audit, kind, counted, refuse_after, when)
        wrapper: Any = hook.wrap(function, bound)
        if isinstance(found, staticmethod | classmethod):
            wrapper = type(found)(wrapper)
        self._replace(owner, name, wrapper)
        if only_here:
            wrapper.__module__ = owner.__name__
        elif not bound and not of_class:
            home = sys.modules.get(getattr(function, "__module__", None) or "")
            if home is not None and home is not owner and getattr(home, name, None) is function:
                self._replace(home, name, wrapper)
        return True

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Sets an attribute until ``undo``."""
        self._replace(owner, name, value)

    def when_undone(self, work: Callable[[], None]) -> None:
        """Registers what else ``undo`` does."""
        self._set = True
        self._undo.append(work)

    def when_imported(self, module: str, work: Callable[[Any], None]) -> None:
        """Runs ``work`` with a module once it is imported, now or later, while the hooks are set."""
        self._set = True
        generation = self._undo

        def run(imported: Any) -> None:
            # A post-import hook cannot be taken back; one of an earlier life does nothing.
            if self._set and self._undo is generation:
                self._contained(work, imported)

        wrapt.register_post_import_hook(run, module)

    def undo(self) -> None:
        """Puts every original back. Idempotent."""
        undo, self._undo, self._set = self._undo, [], False
        while undo:
            undo.pop()()

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        own = name in vars(owner)
        before = vars(owner).get(name)
        undo = functools.partial(_put_back, owner, name, value, own, before)
        if own and is_hook(value) and value.__wrapped__ is before:
            # Classes are made and forgotten by the thousand, and their own methods would keep them.
            undo = functools.partial(_unwrap, weakref.ref(owner), name, weakref.ref(value))
        setattr(owner, name, value)
        self._set = True
        self._undo.append(undo)

    def _contained(self, work: Callable[[Any], None], imported: Any) -> None:
        try:
            work(imported)
        except Exception as error:  # noqa: BLE001 - the import of the library must succeed
            fault = error
            current.on_start(lambda started: started.fault(self.component, fault))


def is_hook(function: Any) -> bool:
    """Whether it was put around a library's function by ``Hooks.around``."""
    return function in _wrappers


def _put_back(owner: Any, name: str, value: Any, own: bool, before: Any) -> None:
    # Somebody who wrapped it after us keeps what he made of it.
    if vars(owner).get(name) is not value:
        return
    if own:
        setattr(owner, name, before)
    else:
        delattr(owner, name)


def _unwrap(owner: weakref.ref[Any], name: str, value: weakref.ref[Any]) -> None:
    place, wrapper = owner(), value()
    if place is not None and wrapper is not None:
        _put_back(place, name, wrapper, True, wrapper.__wrapped__)


@dataclass(frozen=True, slots=True)
class _Hook:
    component: str
    name: str
    audit: MakeAudit | None
    kind: str
    level: ContextVar[bool] | None
    refuse_after: bool
    when: When | None

    def __reduce__(self) -> tuple[Any, ...]:
        # cloudpickle ships classes of __main__ to workers by value, with the hooks of their methods.
        fields = (self.component, self.name, self.audit, self.kind, self.refuse_after, self.when)
        return _shipped, (*fields, self.level is not None)

    def wrap(self, original: Callable[..., Any], bound: bool) -> Callable[..., Any]:
        function = _late(original) if bound and isinstance(original, wrapt.FunctionWrapper) else original
        # The wrappers refer to nothing but what pickles, see __reduce__.
        hook = self
        if inspect.iscoroutinefunction(original):

            @functools.wraps(original)
            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                running = hook.begin(args, kwargs, bound)
                if running is None:
                    return await function(*args, **kwargs)
                try:
                    result = await function(*running.positional, **running.kwargs)
                except BaseException as error:
                    running.end(None, error)
                    raise
                return running.end(result, None)

        else:

            @functools.wraps(original)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                running = hook.begin(args, kwargs, bound)
                if running is None:
                    return function(*args, **kwargs)
                try:
                    result = function(*running.positional, **running.kwargs)
                except BaseException as error:
                    running.end(None, error)
                    raise
                return running.end(result, None)

        _wrappers.add(wrapper)
        return wrapper

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> _Running | None:
        """What is before the call; None where the call is left alone.

        Raises:
            AuditRefusedError: the policy wants a record of it, and none can be stored.
        """
        level = self.level
        if level is not None and level.get():
            return None
        if bound and args:
            running = _Running(self.name, args[0], args[1:], kwargs, self, args)
        else:
            # A method that is called without its instance fails as it would unhooked.
            running = _Running(self.name, None, args, kwargs, self, args)
        try:
            # Before the pipeline is asked for, which starts it: a call that is left alone begins no trail.
            wanted = self.when is None or self.when(running)
            if not wanted:
                return None
            make = None if wanted == SILENT else self.audit
            if make is not None:
                running.pipeline = current.pipeline()
                if running.pipeline is None:
                    return None
            if level is not None:
                # Before the audit: what it asks of a model is not the program's doing either.
                running.token = level.set(True)
            if make is None or running.pipeline is None:
                return running
            running.audit = start(make, running.pipeline, running)
            if running.audit is not None:
                running.begun = time.perf_counter_ns()
                return running
        except BaseException as error:
            running.leave()
            if isinstance(error, AuditRefusedError) or not isinstance(error, Exception):
                raise
            pipeline = current.pipeline()
            if pipeline is not None:
                pipeline.fault(self.component, error, kind=self.kind, outcome=UNKNOWN)
            return None
        running.leave()
        return None


def _shipped(
    component: str,
    name: str,
    audit: MakeAudit | None,
    kind: str,
    refuse_after: bool,
    when: When | None,
    outermost: bool,
) -> _Hook:
    # A context variable does not travel; that of the methods that do is the one for calls of models.
    return _Hook(component, name, audit, kind, inside if outermost else None, refuse_after, when)


def _late(wrapped: Any) -> Callable[..., Any]:
    """Calls a method that another instrumentation has wrapped as a method: as a function it would miss its instance."""

    def through(self: Any, *args: Any, **kwargs: Any) -> Any:
        return wrapped.__get__(self, type(self))(*args, **kwargs)

    return through


@dataclass(slots=True)
class _Running(Call):
    """A call under way; ``audit`` is None where it leaves no record."""

    hook: _Hook
    # What the library gets by position, the instance included.
    positional: tuple[Any, ...]
    pipeline: Pipeline | None = None
    audit: Audit | None = None
    token: Token[bool] | None = None
    begun: int = 0

    def pass_on(self, position: int, name: str, value: Any) -> None:
        bound = len(self.positional) - len(self.args)
        Call.pass_on(self, position, name, value)
        self.positional = (*self.positional[:bound], *self.args)

    def end(self, result: Any, error: BaseException | None) -> Any:
        """What the program gets for the ``result`` of the library."""
        # An audit refers to its call; one that does not get to its end must not wait for the garbage collector.
        audit, self.audit = self.audit, None
        if audit is None or self.pipeline is None:
            self.leave()
            return result
        outcome = Outcome(result, error, time.perf_counter_ns() - self.begun)
        try:
            finish(audit, outcome)
        except AuditRefusedError:
            if self.hook.refuse_after and error is None:
                raise
        except Exception as fault:  # noqa: BLE001 - auditing never breaks the program
            self.pipeline.fault(self.hook.component, fault, kind=self.hook.kind, outcome=outcome.outcome)
            return result
        finally:
            self.leave()
        return outcome.result

    def leave(self) -> None:
        """Those that follow are outermost again."""
        if self.token is None or self.hook.level is None:
            return
        try:
            self.hook.level.reset(self.token)
        except ValueError:
            # A coroutine that was dropped is closed in another context, in which nothing is set.
            return


def start(make: MakeAudit, pipeline: Pipeline, call: Call) -> Audit | None:
    """Runs the first half of an audit; None when it ended there, which is how it says "not this call"."""
    audit = make(pipeline, call)
    try:
        next(audit)
    except StopIteration:
        return None
    return audit


def finish(audit: Audit, outcome: Outcome) -> None:
    """Runs the second half of an audit."""
    try:
        audit.send(outcome)
    except StopIteration:
        return
    audit.close()
    raise RuntimeError("an audit must yield once; this one yielded again")


def refuse_unless_writable(pipeline: Pipeline, kind: str, what: str, *, model: str = "") -> None:
    """Before work that is recorded only when it is done: nothing happens that could not be recorded.

    Raises:
        AuditRefusedError: the policy says ``on_failure: refuse`` for ``kind``, and no record can be stored.
    """
    if pipeline.decide(kind, model=model).on_failure == "refuse" and not pipeline.writable():
        pipeline.refuse(kind)
        raise AuditRefusedError(f"{kind}: the policy wants a record of {what}, and none can be stored now")
