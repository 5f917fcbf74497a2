"""Data that is read in chunks: counted while the program reads it, and recorded at the end."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

from mlaudit.capture.data.access import Access, described, record_access
from mlaudit.capture.data.digest import shape
from mlaudit.capture.process.finalizers import OnFinalize
from mlaudit.errors import AuditRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlaudit.pipeline.pipeline import Pipeline


def seen(pipeline: Pipeline, component: str, accesses: list[Access], result: Any) -> Any:
    """Records what a reader returned: data now, an iterator over it when it ends; returns what the program gets.

    Raises:
        AuditRefusedError: as ``record_access``.
    """
    if hasattr(result, "shape") or isinstance(result, dict | list):
        fields = described(result)
        for access in accesses:
            access.fields |= fields
            record_access(pipeline, access)
        return result
    counted = Counted(pipeline, component, accesses)
    if hasattr(result, "send") and hasattr(result, "close"):
        return counted.through(result)
    if not counted.watch(result):
        counted.end()
    return result


class Counted:
    """Counts the rows of chunks; recorded once, in the context in which the reading started."""

    def __init__(self, pipeline: Pipeline, component: str, accesses: list[Access]) -> None:
        self._current = pipeline
        self._component = component
        self._accesses = accesses
        self._context = contextvars.copy_context()
        self._rows: int | None = None
        self._columns: int | None = None
        self._ended = False
        self._closed: list[bool] | None = None

    def add(self, chunk: Any) -> None:
        """Counts a chunk."""
        try:
            rows, columns = shape(chunk)
            if rows is None:
                # Batches of pyarrow had no shape before version 15.
                rows, columns = getattr(chunk, "num_rows", None), getattr(chunk, "num_columns", None)
            self._rows = (self._rows or 0) + (rows or 0)
            self._columns = columns
        except Exception as fault:  # noqa: BLE001 - auditing never breaks the reading
            self._current.fault(self._component, fault)

    def end(self, error: BaseException | None = None) -> None:
        """Records the access when the program stops reading, or reading fails."""
        if self._ended:
            return
        self._ended = True
        try:
            self._context.run(self._record, error)
        except AuditRefusedError:
            return  # counted by the pipeline; the chunks are already returned
        except Exception as fault:  # noqa: BLE001 - auditing never breaks the reading
            self._current.fault(self._component, fault)

    def _record(self, error: BaseException | None) -> None:
        for access in self._accesses:
            access.fields |= {"ml.dataset.rows": self._rows, "ml.dataset.columns": self._columns}
            record_access(self._current, access, error)

    def through(self, chunks: Iterator[Any]) -> Iterator[Any]:
        """The same chunks, counted."""
        counted = self._counting(chunks)
        OnFinalize(counted, self.end)
        return counted

    def _counting(self, chunks: Iterator[Any]) -> Iterator[Any]:
        try:
            for chunk in chunks:
                self.add(chunk)
                yield chunk
        except GeneratorExit:
            # Closed by the program, or garbage-collected: recorded when it is finalized.
            raise
        except BaseException as error:
            self.end(error)
            raise
        self.end()

    def watch(self, reader: Any) -> bool:
        """Counts what a reader with ``read`` and ``close`` returns; False for a reader without them."""
        # pandas' JSON reader parses each chunk with this, its other readers iterate by read.
        name = "_get_object_parser" if hasattr(reader, "_get_object_parser") else "read"
        read, close = getattr(reader, name, None), getattr(reader, "close", None)
        if read is None or close is None:
            return False

        def counting(*args: Any, **kwargs: Any) -> Any:
            closed: list[bool] = []
            self._closed = closed
            try:
                chunk = read(*args, **kwargs)
            except StopIteration:
                self.end()
                raise
            except BaseException as error:
                self.end(error)
                raise
            finally:
                self._closed = None
            self.add(chunk)
            if closed:
                self.end()
            return chunk

        def closing(*args: Any, **kwargs: Any) -> Any:
            # pandas closes before it raises: the outcome is known only afterwards.
            if self._closed is None:
                self.end()
            else:
                self._closed.append(True)
            return close(*args, **kwargs)

        setattr(reader, name, counting)
        reader.close = closing
        OnFinalize(reader, self.end)
        return True
