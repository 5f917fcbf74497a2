"""A small JSON file that several processes of one service read, compare with and write, one after the other."""

from __future__ import annotations

import fcntl
import json
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from mlaudit.deliver.spool.files import make_folder, replace_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


class Remembered:
    """What earlier starts left behind, as one JSON object."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of_service(cls, state_dir: Path, service: str, what: str) -> Remembered:
        """The memory of one service about ``what``, beside its memory of streams and policies."""
        return cls(state_dir / "services" / f"{_UNSAFE.sub('_', service) or '_'}.{what}.json")

    def read(self) -> dict[str, Any]:
        """The content; empty when there is none yet.

        Raises:
            OSError: it cannot be read. ValueError: it is damaged.
        """
        try:
            content = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise ValueError(
                f"{self.path}: expected a JSON object, found something else; move it away to begin anew"
            )
        return content

    @contextmanager
    def exclusively(self) -> Iterator[dict[str, Any]]:
        """The content, while no other process has it; what the block changes in it is written when it ends well.

        Raises:
            OSError, SpoolUnavailableError: the folder or the file cannot be used. ValueError: it is damaged.
        """
        make_folder(self.path.parent)
        lock = self.path.with_suffix(".lock")
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            content = self.read()
            before = json.dumps(content, sort_keys=True)
            yield content
            after = json.dumps(content, sort_keys=True)
            if after != before:
                replace_file(self.path, after.encode())
        finally:
            os.close(descriptor)
