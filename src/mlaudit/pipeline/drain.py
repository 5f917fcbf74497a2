"""Sends what the processes of a spool left that are gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlaudit.deliver.spool.lock import is_locked
from mlaudit.deliver.spool.spool import read_spool
from mlaudit.pipeline.backend import SpoolBackend
from mlaudit.pipeline.pipeline import record_builder

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlaudit.settings import Settings


@dataclass(frozen=True, slots=True)
class Drained:
    """How many streams without a process there were, and how many of them were drained."""

    drained: int
    streams: int

    @property
    def ok(self) -> bool:
        """Whether none is left."""
        return self.drained >= self.streams


def drain(settings: Settings, seconds: float, report: Callable[[str], object]) -> Drained:
    """Sends what dead processes left, and closes their streams with a signature.

    Args:
        settings: name the spool and the receiver.
        seconds: how long to go on trying.
        report: called with the reason why something was not sent.

    Raises:
        SpoolError, PolicyError, KeyFileError: the spool, the policy or the key cannot be used.
    """
    left = [folder for folder in read_spool(settings.spool_dir) if not is_locked(folder)]
    backend = SpoolBackend(settings)
    builder = record_builder(settings, backend.policy().digest)
    drained = backend.adopt(builder, report=lambda _, reason: report(reason), seconds=seconds)
    return Drained(drained, len(left))
