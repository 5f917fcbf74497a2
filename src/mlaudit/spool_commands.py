"""What ``mlaudit spool drain`` does and prints."""

from __future__ import annotations

from rich.console import Console

from mlaudit.backend import SpoolBackend
from mlaudit.deliver.lock import is_locked
from mlaudit.deliver.spool import read_spool
from mlaudit.pipeline import common_fields
from mlaudit.printable import safe
from mlaudit.record.build import RecordBuilder
from mlaudit.settings import Settings


def drain(seconds: float) -> int:
    """Send what processes that are gone left behind, and close their streams; 0 when nothing is left.

    Raises:
        SpoolError: there is no spool. KeyFileError: there is no key to close a stream with.
    """
    settings = Settings.from_env()
    left = [folder for folder in read_spool(settings.spool_dir) if not is_locked(folder)]
    backend = SpoolBackend(settings)
    builder = RecordBuilder(common_fields(settings, backend.policy().digest))
    console = Console(highlight=False)
    drained = backend.adopt(
        builder,
        report=lambda count, reason: console.print(f"not sent: {safe(reason)}", markup=False),
        seconds=seconds,
    )
    console.print(f"drained {drained} of {len(left)} streams whose processes are gone")
    return 0 if drained >= len(left) else 1
