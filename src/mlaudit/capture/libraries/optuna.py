"""Optuna (3.2 and later): studies and their trials, by ``Study.optimize`` or by ``ask`` and ``tell``.

A study is a run, a trial is a run of its own whose parent is the study's, and whatever is trained inside of an
objective is a child of its trial. Only public names are used: the objective is passed on watched, and a callback
sees each trial as Optuna ended it. With ``n_jobs`` the objective runs in threads without the caller's context: actor
and run are passed to them.
"""

from __future__ import annotations

import functools
import threading
import weakref
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.hooks import Audit, Call, Hooks
from mlaudit.capture.models.parameter_search import COMPONENT, Search, Trial
from mlaudit.capture.nesting import Carried, inside
from mlaudit.capture.request_context import current_run
from mlaudit.catalog.names import ML_TUNING_STARTED, ML_TUNING_TRIAL
from mlaudit.errors import AuditRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mlaudit.pipeline.pipeline import Pipeline

_FUNC: Final = (0, "func")
_CALLBACKS: Final = (5, "callbacks")
_hooks: Final = Hooks(COMPONENT)
# Studies under way in this process: how many ``optimize`` run on it, and the search that ``ask`` began.
_optimized: Final[weakref.WeakKeyDictionary[Any, int]] = weakref.WeakKeyDictionary()
_asked: Final[weakref.WeakKeyDictionary[Any, Search]] = weakref.WeakKeyDictionary()
_asking: Final = threading.Lock()


class OptunaIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "optuna"
    module: ClassVar[str] = "optuna"

    def instrument(self) -> None:
        """Hooks ``Study.optimize``, ``Study.ask`` and ``Study.tell``."""
        from optuna.study import Study

        _hooks.around(Study, "optimize", _optimize, kind=ML_TUNING_STARTED, when=_is_outermost)
        _hooks.around(Study, "ask", _ask, kind=ML_TUNING_STARTED, when=_is_by_hand)
        _hooks.around(Study, "tell", _tell, kind=ML_TUNING_TRIAL, when=_is_outermost)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        _hooks.undo()


def _is_outermost(_: Call) -> bool:
    # A study inside of another library's search (an estimator that tunes itself) belongs to that search's record.
    return not inside.get()


def _is_by_hand(call: Call) -> bool:
    return not inside.get() and not _optimized.get(call.instance)


def _optimize(pipeline: Pipeline, call: Call) -> Audit:
    study = call.instance
    search = Search(pipeline, study, "study", _settings(call))
    # 1. A search that cannot be recorded does not start, when the policy says so.
    search.start()
    watch = _Watch(search, study)
    call.pass_on(*_FUNC, watch.objective(call.argument(*_FUNC)))
    call.pass_on(*_CALLBACKS, _Callbacks(watch.ended, call.argument(*_CALLBACKS)))
    token = current_run.set(search.run)
    _optimized[study] = _optimized.get(study, 0) + 1
    watch.carried = Carried.capture()
    try:
        outcome = yield
    finally:
        current_run.reset(token)
        _optimized[study] -= 1
    # 2. Optuna calls no callback for a trial whose error ends the study.
    watch.rest()
    search.completed(study, outcome)


def _settings(call: Call) -> dict[str, Any]:
    names = ("n_trials", "timeout", "n_jobs")
    given = {name: call.argument(place + 1, name) for place, name in enumerate(names)}
    return {name: value for name, value in given.items() if value is not None}


class _Watch:
    """The trials of one ``optimize`` from the inside; a fault of its own never reaches a trial."""

    def __init__(self, search: Search, study: Any) -> None:
        self._search = search
        self._study = study
        self._thread = threading.get_ident()
        self._trials: dict[int, Trial] = {}
        self.carried: Carried | None = None

    def objective(self, func: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """``func``, inside of which the trial is the current run."""

        def watched(trial: Any) -> Any:
            entered = self._enter(trial)
            if entered is None:
                return func(trial)
            token = current_run.set(entered.run)
            try:
                return func(trial)
            except BaseException as error:
                entered.error = error
                raise
            finally:
                entered.stop()
                current_run.reset(token)

        return functools.wraps(func)(watched)

    def ended(self, study: Any, frozen: Any) -> None:
        """Optuna's callback after each trial."""
        try:
            self._carry()
            trial = self._trials.pop(frozen.number, None) or Trial(self._search.run)
            self._search.trial(study, frozen, trial)
        except AuditRefusedError:
            # The trial has run; the pipeline has counted.
            return
        except Exception as fault:  # noqa: BLE001 - auditing never breaks the study
            self._search.pipeline.fault(COMPONENT, fault, kind=ML_TUNING_TRIAL)

    def rest(self) -> None:
        """Records the trials that began and whose end no callback reported."""
        if not self._trials:
            return
        by_number = {frozen.number: frozen for frozen in self._study.get_trials(deepcopy=False)}
        for number in sorted(self._trials):
            if number in by_number:
                self.ended(self._study, by_number[number])

    def _enter(self, trial: Any) -> Trial | None:
        try:
            self._carry()
            entered = Trial(self._search.run)
            self._trials[trial.number] = entered
        except Exception as fault:  # noqa: BLE001 - auditing never breaks the study
            self._search.pipeline.fault(COMPONENT, fault, kind=ML_TUNING_TRIAL)
            return None
        return entered

    def _carry(self) -> None:
        # The other threads are made for this study and end with it: nothing to take back in them.
        if self.carried is not None and threading.get_ident() != self._thread:
            self.carried.enter()


class _Callbacks:
    """The program's callbacks after mlaudit's; may be iterated any number of times."""

    def __init__(self, first: Callable[[Any, Any], None], others: Iterable[Any] | None) -> None:
        self._first = first
        self._others = others

    def __iter__(self) -> Iterator[Any]:
        yield self._first
        if self._others is not None:
            yield from self._others


def _ask(pipeline: Pipeline, call: Call) -> Audit:
    study = call.instance
    with _asking:
        search = _asked.get(study)
        if search is None:
            search = Search(pipeline, study, "ask", {})
            search.start()
            _asked[study] = search
    outcome = yield
    if outcome.error is None:
        search.open[outcome.result.number] = Trial(search.run)


def _tell(pipeline: Pipeline, call: Call) -> Audit:
    study = call.instance
    outcome = yield
    if outcome.error is not None:
        return  # refused by Optuna: the trial goes on
    frozen = outcome.result
    with _asking:
        search = _asked.get(study)
        if search is None:
            # Requested by another process, or while auditing was off.
            search = _asked[study] = Search(pipeline, study, "ask", {})
        if frozen.number in search.recorded:
            return
        search.recorded.add(frozen.number)
    trial = search.open.pop(frozen.number, None)
    if trial is None:
        trial = Trial(search.run)
    else:
        trial.stop()
    search.trial(study, frozen, trial)
