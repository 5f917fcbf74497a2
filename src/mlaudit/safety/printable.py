"""Escapes untrusted text for terminals and logs.

Names in records, paths, header values and a receiver's answers may contain terminal controls (escape sequences, links,
changes of direction) or line breaks that forge log lines. All of these characters are escaped visibly.
"""

from __future__ import annotations

import logging


def safe(text: str) -> str:
    """The text with control, escape and direction characters escaped visibly."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def safe_lines(text: str) -> str:
    """As ``safe``, but keeps line breaks: for texts whose lines mlaudit itself writes."""
    return "\n".join(safe(line) for line in text.split("\n"))


class SafeMessages(logging.Filter):
    """Makes every message of a logger a single line without terminal controls."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replaces the message; never drops a record."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - an argument that cannot be shown; logging must not raise
            message = str(record.msg)
        record.msg, record.args = safe(message), None
        return True


def guard_log() -> None:
    """Adds ``SafeMessages`` to mlaudit's logger, once."""
    logger = logging.getLogger("mlaudit")
    if not any(isinstance(one, SafeMessages) for one in logger.filters):
        logger.addFilter(SafeMessages())
