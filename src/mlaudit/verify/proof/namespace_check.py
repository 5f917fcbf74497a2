"""Where the records of one stream lie: in one place, as far as an original cannot say which. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlaudit.verify.proof import finding_codes as codes
from mlaudit.verify.proof.finding_codes import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlaudit.verify.proof.stored import StoredRecord


class Islands:
    """Finds records that lie in another namespace than those on both sides of them.

    The collector gives the namespace, and a collector that is configured anew in the middle of a stream begins
    another one. It does not come back to the first for the records behind.
    """

    def __init__(self, stream_id: str) -> None:
        self._stream_id = stream_id
        self._sequence = 0
        self._here: set[str] = set()
        self._where = ""
        self._run = ""
        self._first = self._last = 0
        self._run_where = ""
        self._before = ""
        self._found: list[Finding] = []

    def saw(self, record: StoredRecord) -> None:
        """Takes a record; copies of one record may lie in several namespaces."""
        namespace = record.claims.namespace
        if record.sequence == self._sequence:
            self._here.add(namespace)
            return
        self._settle()
        self._sequence, self._here, self._where = record.sequence, {namespace}, record.claims.where

    def finish(self) -> Iterator[Finding]:
        """After the last record."""
        self._settle()
        yield from self._found

    def _settle(self) -> None:
        """Adds the place that is complete to the run of places that lie together."""
        if not self._here or self._run in self._here:
            self._last = self._sequence
            return
        namespace = min(self._here) if self._before not in self._here else self._before
        if self._run and namespace == self._before:
            text = (
                f"records {self._first} to {self._last} lie in namespace {self._run}, those before and behind "
                f"them in {namespace}"
            )
            self._found.append(
                Finding(
                    codes.DOCUMENT_PLACE,
                    text,
                    self._stream_id,
                    self._first,
                    self._last,
                    expected=namespace,
                    found=self._run,
                    where=self._run_where,
                )
            )
            # The run before the island goes on.
            self._before = ""
        else:
            self._before = self._run
        self._run, self._first, self._last, self._run_where = (
            namespace,
            self._sequence,
            self._sequence,
            self._where,
        )
