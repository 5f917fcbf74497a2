"""``-v``: what mlaudit's own log says, on standard error."""

from __future__ import annotations

import logging
import sys

from mlaudit.safety.printable import safe_lines

#: From this ``-v`` on, tracebacks are printed.
TRACEBACKS = 2


class _Plain(logging.Formatter):
    """One line a record; the traceback of an error only where it was asked for."""

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        """The record as text that commands no terminal."""
        if not self._tracebacks:
            record = logging.makeLogRecord({**record.__dict__, "exc_info": None, "exc_text": None})
        return safe_lines(super().format(record))


class _Verbose(logging.StreamHandler):  # type: ignore[type-arg]
    """Marks what ``be_verbose`` has put on the logger."""

    def __init__(self, verbosity: int) -> None:
        super().__init__(sys.stderr)
        self.verbosity = verbosity
        self.setFormatter(_Plain(tracebacks=verbosity >= TRACEBACKS))


def be_verbose(verbosity: int) -> None:
    """Prints mlaudit's log: 1 from INFO on, 2 from DEBUG on. 0 leaves it as it is."""
    logger = logging.getLogger("mlaudit")
    for handler in [one for one in logger.handlers if isinstance(one, _Verbose)]:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    if verbosity:
        logger.addHandler(_Verbose(verbosity))
        logger.setLevel(logging.DEBUG if verbosity >= TRACEBACKS else logging.INFO)


def tracebacks_wanted() -> bool:
    """Whether ``-vv`` was given."""
    return any(
        isinstance(one, _Verbose) and one.verbosity >= TRACEBACKS
        for one in logging.getLogger("mlaudit").handlers
    )
