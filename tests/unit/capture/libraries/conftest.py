"""Code under audit with the library hooks set, without anything else that switching on does."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from threadpoolctl import threadpool_limits

from mlaudit.capture.libraries import calls, joblib, sklearn
from mlaudit.testing import capture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from mlaudit.testing import AuditLog


@pytest.fixture
def auditing() -> Iterator[Callable[..., AbstractContextManager[AuditLog]]]:
    """``capture(...)`` with the hooks into scikit-learn and joblib; they are as they were afterwards."""
    integrations = [sklearn.SklearnIntegration(), joblib.JoblibIntegration()]
    were_set = [sklearn.is_instrumented(), joblib.is_instrumented()]
    for integration in integrations:
        integration.instrument()

    @contextmanager
    def start(policy: str | None = None, env: dict[str, str] | None = None) -> Iterator[AuditLog]:
        # Threads that spin for a matrix of 150 rows cost more than the tests themselves.
        with threadpool_limits(1), capture(policy, env, instrument=False) as log:
            yield log

    yield start
    for integration, was_set in zip(integrations, were_set, strict=True):
        if not was_set:
            integration.uninstrument()
    assert calls.inside.get() is False


@pytest.fixture
def log(auditing: Callable[..., AbstractContextManager[AuditLog]]) -> Iterator[AuditLog]:
    """The records under the built-in policy."""
    with auditing() as audit_log:
        yield audit_log
