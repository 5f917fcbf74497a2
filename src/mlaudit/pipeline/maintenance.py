"""The maintenance threads: they sign, report losses, and adopt the streams of dead processes."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from mlaudit.errors import MlauditError
from mlaudit.pipeline.losses import QUIET_SECONDS
from mlaudit.safety.rate_limit import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

_TEND_SECONDS: Final = 0.25
_ADOPT_SECONDS: Final = 15.0

_logger = logging.getLogger("mlaudit")


class Tender:
    """Two daemon threads for one stream, from its start to its end.

    Args:
        tend: reports losses and signs when it is due; called several times a second.
        adopt: drains and closes streams whose processes have ended: those of an earlier start, and of workers that
            die while this process runs. May take long when the receiver is unreachable.
    """

    def __init__(self, tend: Callable[[], object], adopt: Callable[[], object]) -> None:
        self._stop = threading.Event()
        self._warnings: RateLimit[str] = RateLimit(1, QUIET_SECONDS)
        for name, work, seconds in (("tender", tend, _TEND_SECONDS), ("adopter", adopt, _ADOPT_SECONDS)):
            threading.Thread(
                target=self._repeat, args=(name, work, seconds), name=f"mlaudit-{name}", daemon=True
            ).start()

    def stop(self) -> None:
        """Stops both threads; does not wait for them."""
        self._stop.set()

    def _repeat(self, name: str, work: Callable[[], object], seconds: float) -> None:
        while not self._stop.is_set():
            try:
                work()
            except (MlauditError, OSError) as error:
                if not self._stop.is_set() and self._warnings.allow(name):
                    _logger.warning("audit %s: %s", name, error)
            self._stop.wait(seconds)
