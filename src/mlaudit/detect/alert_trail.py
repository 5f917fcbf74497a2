"""Alerts as audit records: sealed in a stream of their own, each finding once, across runs and crashes."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Self

from mlaudit.deliver.spool.files import make_folder, replace_file
from mlaudit.errors import SourceError, SpoolError
from mlaudit.pipeline.current import open_pipeline
from mlaudit.safety.file_lock import locked

if TYPE_CHECKING:
    from types import TracebackType

    from mlaudit.event import AuditEvent
    from mlaudit.pipeline.pipeline import Pipeline
    from mlaudit.settings import Settings

#: The service of the records where the environment names none.
SERVICE: Final = "mlaudit-detect"
_UNNAMED: Final = "unknown_service"
_KEPT: Final = 50_000


class AlertTrail:
    """Records alerts; a context manager that one process at a time can hold.

    A stream is opened with the first new alert. An alert is remembered after its record is safe on disk: a crash
    between the two repeats the record, with the same record id.

    Args:
        settings: where records go; see docs/settings.md.
        name: of the source of alerts. Recorded findings and the read position are kept under this name in
            ``<state folder>/detection``.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        if settings.service_name == _UNNAMED:
            settings = replace(settings, service_name=SERVICE)
        self._settings = settings
        self._path = settings.state_dir / "detection" / f"{name}.jsonl"
        self._pipeline: Pipeline | None = None
        self._open = ExitStack()
        self._recorded: dict[str, None] = {}
        self.position = ""
        self.recorded = 0

    def __enter__(self) -> Self:
        """Locks the state file for this process.

        Raises:
            SourceError: another process records the same alerts, or the state file cannot be read or written.
            SpoolError: the state folder cannot be made.
        """
        make_folder(self._path.parent)
        try:
            self._lock()
            self._read()
            self._file = self._open.enter_context(self._path.open("ab", buffering=0))
        except OSError as error:
            self._open.close()
            raise SourceError(f"{self._path}: expected a readable file, found {error.strerror}") from None
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the stream, sends what is left, and releases the state file."""
        with self._open:
            if self._pipeline is not None:
                self._pipeline.close("detection is done")

    def record(self, key: str, event: AuditEvent) -> bool:
        """Records the alert unless its key was recorded before; returns whether it did.

        Args:
            key: the same for the same finding, whenever it is found.
            event: its record id is replaced by one that follows from the key.

        Raises:
            SpoolError: it could not be stored; it is not remembered.
        """
        digest = sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        if digest in self._recorded:
            return False
        event.record_id = "-".join(
            (digest[:8], digest[8:12], f"8{digest[13:16]}", f"a{digest[17:20]}", digest[20:32])
        )
        if self._pipeline is None:
            self._pipeline = open_pipeline(self._settings)
        if not self._pipeline.emit(event).wait():
            raise SpoolError(
                f"an alert could not be recorded in {self._settings.spool_dir}; check its disk, then run it again"
            )
        self._append({"told": digest})
        self._recorded[digest] = None
        self.recorded += 1
        return True

    def reach(self, position: str) -> None:
        """Saves the read position of the source."""
        if position > self.position:
            self._append({"position": position})
            self.position = position

    def _append(self, line: dict[str, str]) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        os.fsync(self._file.fileno())

    def _lock(self) -> None:
        try:
            self._open.enter_context(locked(self._path.with_suffix(".lock"), 0))
        except TimeoutError:
            raise SourceError(
                f"{self._path}: another process records these alerts; let one timer run it, or let one follow"
            ) from None

    def _read(self) -> None:
        """Reads the state file, skips a line that a crash cut short, and rewrites the file."""
        lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if not isinstance(entry, dict):
                continue
            if isinstance(digest := entry.get("told"), str):
                self._recorded[digest] = None
            if isinstance(position := entry.get("position"), str):
                self.position = max(self.position, position)
        self._recorded = dict.fromkeys(list(self._recorded)[-_KEPT:])
        kept = [{"told": digest} for digest in self._recorded]
        if self.position:
            kept.append({"position": self.position})
        replace_file(self._path, b"".join(json.dumps(entry).encode() + b"\n" for entry in kept))
