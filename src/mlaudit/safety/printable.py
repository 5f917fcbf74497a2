"""Text that came from strangers, made fit for a terminal and a log.

Names in records, paths, header values and answers of a receiver may hold what a terminal obeys (escape sequences,
links, a change of direction) or what makes one line of a log two. All of it is written out, so that it can be seen.
"""

from __future__ import annotations

import logging


def safe(text: str) -> str:
    """The text with everything made visible that a terminal would obey: control, escape and direction characters."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def safe_lines(text: str) -> str:
    """The text made safe for a terminal, line ends kept: for texts whose lines are ours."""
    return "\n".join(safe(line) for line in text.split("\n"))


class SafeMessages(logging.Filter):
    """Makes every message of a logger one line that commands no terminal."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replaces the message; never turns a record away."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - an argument that cannot be shown; logging must not raise
            message = str(record.msg)
        record.msg, record.args = safe(message), None
        return True


def guard_log() -> None:
    """Puts ``SafeMessages`` on mlaudit's logger, once."""
    logger = logging.getLogger("mlaudit")
    if not any(isinstance(one, SafeMessages) for one in logger.filters):
        logger.addFilter(SafeMessages())
