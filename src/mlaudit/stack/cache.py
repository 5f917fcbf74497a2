"""Where fetched and built programs are kept, outside of any checkout."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from mlaudit.errors import StackError
from mlaudit.safety.file_lock import locked

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    Report = Callable[[str], None]


def cache_dir() -> Path:
    """The cache folder, made if absent.

    ``$MLAUDIT_CACHE``, else ``/var/cache/mlaudit`` for root (Elasticsearch refuses to run as root, and the
    user it is run as cannot enter root's home), else ``$XDG_CACHE_HOME/mlaudit`` or ``~/.cache/mlaudit``.

    Raises:
        StackError: the folder cannot be made.
    """
    if chosen := os.environ.get("MLAUDIT_CACHE"):
        folder = Path(chosen).expanduser().absolute()
    elif os.geteuid() == 0:
        folder = Path("/var/cache/mlaudit")
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlaudit"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(
            f"expected a cache folder that can be written, found {folder}: {error.strerror}; "
            "set MLAUDIT_CACHE to another folder"
        ) from error
    return folder


def preparing(name: str, report: Report) -> AbstractContextManager[None]:
    """Holds the cache's lock ``name``, so that two runs do not fetch or build the same thing twice."""
    waiting = f"waiting for another mlaudit process that prepares {name}"
    return locked(cache_dir() / f"{name}.lock", on_wait=lambda: report(waiting))


def sha256_of(path: Path) -> str:
    """Lower-case hex SHA-256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
