"""What ``mlaudit spool status`` and ``mlaudit spool drain`` do and print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from mlaudit.backend import SpoolBackend
from mlaudit.deliver import files, layout
from mlaudit.deliver.spool import read_spool
from mlaudit.pipeline import common_fields
from mlaudit.record.build import RecordBuilder
from mlaudit.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


def status() -> int:
    """Print the streams of the spool; 0 when nothing waits, 1 when something does.

    Raises:
        SpoolError: there is no spool.
    """
    settings = Settings.from_env()
    table = Table(title=str(settings.spool_dir), title_justify="left")
    for column in ("stream", "writer", "records", "acknowledged", "bytes", "set aside"):
        table.add_column(column)
    waiting = False
    for folder in read_spool(settings.spool_dir):
        last, acknowledged, size = _progress(folder)
        waiting |= last > acknowledged
        aside = list(layout.quarantine_folder(folder).glob("*.otlp"))
        table.add_row(
            folder.name,
            "alive" if files.is_locked(folder) else "gone",
            str(last),
            str(acknowledged),
            str(size),
            str(len(aside)),
        )
    Console(highlight=False).print(table)
    return 1 if waiting else 0


def drain(seconds: float) -> int:
    """Send what processes that are gone left behind, and close their streams; 0 when nothing is left.

    Raises:
        SpoolError: there is no spool. KeyFileError: there is no key to close a stream with.
    """
    settings = Settings.from_env()
    left = [folder for folder in read_spool(settings.spool_dir) if not files.is_locked(folder)]
    backend = SpoolBackend(settings)
    builder = RecordBuilder(common_fields(settings, backend.policy().digest))
    drained = backend.adopt(builder, seconds=seconds)
    Console(highlight=False).print(f"drained {drained} of {len(left)} streams whose processes are gone")
    return 0 if drained >= len(left) else 1


def _progress(folder: Path) -> tuple[int, int, int]:
    last = size = 0
    for segment in layout.segments(folder):
        frames, _ = files.read_frames(segment)
        size += segment.stat().st_size
        if frames:
            last = frames[-1].sequence
    ack = files.read_ack(folder)
    return last, ack.sequence if ack else 0, size
