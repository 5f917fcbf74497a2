"""The instrumentor that ``opentelemetry-instrument`` loads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from mlaudit.capture import instrumentor
from mlaudit.settings import is_enabled

if TYPE_CHECKING:
    from collections.abc import Collection


class MlauditInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # the package has no types
    """Installs and removes the audit's hooks, when ``MLAUDIT_ENABLED`` is on.

    An instrumentor, not a distro or a configurator: only one of those can load, and the vendor provides it.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: every integration waits for its own library."""
        return ()

    def _instrument(self, **_: Any) -> None:
        if is_enabled():
            instrumentor.activate()

    def _uninstrument(self, **_: Any) -> None:
        instrumentor.deactivate()
