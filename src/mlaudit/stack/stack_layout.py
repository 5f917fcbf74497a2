"""Every path of a local stack, and who may read it.

Elasticsearch refuses to run as root. When we are root, both programs run as an unprivileged user, who owns
the ``run`` folder; everything else stays ours.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlaudit.safety.file_lock import locked
from mlaudit.stack.cache import cache_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mlaudit.stack.cache import Report


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders and files of one stack, below ``directory``."""

    directory: Path
    run: Path
    uid: int | None

    @property
    def state(self) -> Path:
        """What runs: urls, process ids."""
        return self.directory / "stack.json"

    @property
    def credentials(self) -> Path:
        """Users, passwords, the senders' token; 0600."""
        return self.directory / "credentials.json"

    @property
    def ca_file(self) -> Path:
        """The certificate authority that signed Elasticsearch's certificate."""
        return self.directory / "ca.pem"

    @property
    def otlp_ca_file(self) -> Path:
        """The certificate authority that signed the collector's certificate and the senders'."""
        return self.directory / "otlp-ca.pem"

    @property
    def client_certificate(self) -> tuple[Path, Path]:
        """A sender's certificate and its key."""
        return self.directory / "client.pem", self.directory / "client.key"

    @property
    def senders(self) -> Path:
        """Tokens of named senders, a file each."""
        return self.directory / "senders"

    @property
    def logs(self) -> Path:
        """What both programs printed."""
        return self.directory / "logs"

    @property
    def lock(self) -> Path:
        """Held while the stack is started or stopped."""
        return self.directory / "stack.lock"

    @property
    def elasticsearch(self) -> Path:
        """Elasticsearch's config, data, tmp and logs folders."""
        return self.run / "elasticsearch"

    @property
    def collector(self) -> Path:
        """The collector's configuration, secrets and queue."""
        return self.run / "collector"

    def make(self) -> None:
        """Make the folders."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(exist_ok=True)
        self.senders.mkdir(mode=0o700, exist_ok=True)
        for folder in (self.run, self.elasticsearch, self.collector):
            folder.mkdir(parents=True, exist_ok=True)
            self.hand_over(folder, 0o700)

    def hand_over(self, path: Path, mode: int) -> None:
        """Give ``path`` to the user that the programs run as, with ``mode``."""
        path.chmod(mode)
        if self.uid is not None:
            os.chown(path, self.uid, self.uid)

    def write(self, path: Path, text: str, *, secret: bool = False) -> Path:
        """Write a file for the programs; a ``secret`` is readable by their user alone."""
        # Handed over before it appears under its name: a program that watches it must be able to read it at once.
        write_private(path, text, lambda written: self.hand_over(written, 0o600 if secret else 0o644))
        return path

    def remove_data(self) -> None:
        """Delete everything the programs stored: indices and queue."""
        for folder in (self.elasticsearch, self.collector):
            shutil.rmtree(folder, ignore_errors=True)


def layout_of(directory: Path) -> Layout:
    """The layout for ``directory``.

    The ``run`` folder is inside, unless the unprivileged user could not get there (a checkout below root's
    home, a private temporary folder): then it is in the cache folder.
    """
    directory = directory.expanduser().absolute()
    uid = unprivileged_uid()
    run = directory / "run"
    if uid is not None and not reachable(directory, uid):
        run = cache_dir() / "run" / hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    return Layout(directory, run, uid)


def unprivileged_uid() -> int | None:
    """The user to run the programs as: None (ourselves), or nobody's id when we are root."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("nobody").pw_uid
    return 65534


def reachable(path: Path, uid: int) -> bool:
    """Whether ``uid`` can enter ``path`` through all its parents, where they exist."""
    path = path.absolute().resolve()
    for folder in (path, *path.parents):
        with contextlib.suppress(FileNotFoundError):
            status = folder.stat()
            bit = stat.S_IXUSR if status.st_uid == uid else stat.S_IXOTH
            if not status.st_mode & bit:
                return False
    return True


def write_private(path: Path, text: str, prepare: Callable[[Path], object] = lambda _: None) -> None:
    """Write ``path`` so that it is never half written, and readable by others only after ``prepare``."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(text)
    prepare(temporary)
    temporary.replace(path)


@contextlib.contextmanager
def exclusive(layout: Layout, report: Report) -> Iterator[None]:
    """Hold the stack's lock: no other process can start or stop it."""
    layout.directory.mkdir(parents=True, exist_ok=True)
    waiting = "waiting for another mlaudit process that starts or stops this stack"
    with locked(layout.lock, on_wait=lambda: report(waiting)):
        yield
