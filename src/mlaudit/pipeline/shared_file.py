"""A small JSON file that several processes of one service read, compare with and write, one after the other."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from mlaudit.deliver.spool.files import make_folder, replace_file
from mlaudit.safety.file_lock import locked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Others hold it for some writes; one that was stopped while it holds it must not stop the service that starts.
_LOCK_SECONDS: Final = 30.0
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


class Remembered:
    """The state stored by earlier starts, as one JSON object."""

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
                f"{self.path}: expected a JSON object, found something else; move the file to start over"
            )
        return content

    @contextmanager
    def exclusively(self) -> Iterator[dict[str, Any]]:
        """The content under an exclusive lock; changes by the block are written if it ends without an error.

        Raises:
            OSError, SpoolUnavailableError: the folder or the file cannot be used, or another process did not let go of
                it in half a minute.
            ValueError: it is damaged.
        """
        make_folder(self.path.parent)
        with locked(self.path.with_suffix(".lock"), _LOCK_SECONDS):
            content = self.read()
            before = json.dumps(content, sort_keys=True)
            yield content
            after = json.dumps(content, sort_keys=True)
            if after != before:
                replace_file(self.path, after.encode())
