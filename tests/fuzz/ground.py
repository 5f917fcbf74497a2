"""Shared by several targets: folders in memory, and a check of text for a terminal."""

from __future__ import annotations

import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# fsync on a memory file system costs nothing, and a target makes folders by the thousand.
_MEMORY = Path("/dev/shm")


@contextmanager
def fresh_folder() -> Iterator[Path]:
    """An empty folder, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="mlaudit-fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def assert_plain(text: str) -> None:
    """Asserts that a terminal interprets nothing in the text: no control, escape, direction or invisible characters."""
    for character in text:
        assert character == "\n" or unicodedata.category(character)[0] != "C", (
            f"U+{ord(character):04X} in output"
        )
        assert character not in "\u2028\u2029"
