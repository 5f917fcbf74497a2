"""Checks the data stream namespaces of one stream's records, which no original names. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlaudit.verify.proof import finding_codes as codes
from mlaudit.verify.proof.finding_codes import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlaudit.verify.proof.stored import StoredRecord


class NamespaceCheck:
    """Finds records that lie in another namespace than the records before and after them.

    The collector sets the namespace. A collector that is reconfigured in the middle of a stream changes the namespace
    once; it does not return to the first namespace for later records.
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

    def add(self, record: StoredRecord) -> None:
        """Adds a record; copies of one record may lie in several namespaces."""
        namespace = record.claims.namespace
        if record.sequence == self._sequence:
            self._here.add(namespace)
            return
        self._settle()
        self._sequence, self._here, self._where = record.sequence, {namespace}, record.claims.where

    def finish(self) -> Iterator[Finding]:
        """The findings, after the last record."""
        self._settle()
        yield from self._found

    def _settle(self) -> None:
        """Adds the completed place to the run of places in one namespace."""
        if not self._here or self._run in self._here:
            self._last = self._sequence
            return
        namespace = min(self._here) if self._before not in self._here else self._before
        if self._run and namespace == self._before:
            text = (
                f"records {self._first} to {self._last} lie in namespace {self._run}, the records before and after "
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
            # The earlier run continues after the displaced records.
            self._before = ""
        else:
            self._before = self._run
        self._run, self._first, self._last, self._run_where = (
            namespace,
            self._sequence,
            self._sequence,
            self._where,
        )
