"""A power failure, without pulling a plug: remembers every change to the files below a folder, and what fsync covers.

While a ``Disk`` is entered, every change that this process makes through ``os`` (and ``pathlib``) below its root is
logged. ``after_cut`` then rebuilds what a disk would hold had the power gone at any moment of that log:

- of a file, what an fsync or fdatasync covered that had returned by then;
- of a folder, the names that an fsync of that folder covered: files that were made, renamed or removed since are
  as they were before (a rename over two folders happens in both or in neither, as on a journaling file system);
- with dice, also some of the rest: some of the later names; of a file's later writes a beginning, the last of them
  torn, or a later one without an earlier, whose place then holds zeros.

In one process::

    with Disk(spool) as disk:
        ...                                   # write, and disk.mark("returned", record_id) what was promised
    disk.after_cut(moment, folder, random.Random(seed))     # any number of times, 0 <= moment <= len(disk.log)

For a process of its own, e.g. a service under uvicorn, which loses power as soon as TRIGGER exists, leaves in INTO
what its disk would hold, and is gone with status 137::

    python -m tests.fault.powercut ROOT INTO TRIGGER -m uvicorn service:app ...
"""

# Paths here are names in a log, and every call of pathlib would come back into it.
# ruff: noqa: PTH100, PTH110, PTH116, PTH120

from __future__ import annotations

import os
import random
import runpy
import stat
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

KILLED = 137
_TORN = 0.5
_HOLE = 0.15


@dataclass(slots=True)
class Change:
    """One entry of the log: what happened to which file, when, and what it came with."""

    what: str
    time: float
    file: int = 0
    path: str = ""
    other: str = ""
    offset: int = 0
    data: bytes = b""
    covers: int = 0
    value: Any = None

    @property
    def folders(self) -> set[str]:
        """The folders whose names change."""
        return {os.path.dirname(path) for path in (self.path, self.other) if path}


@dataclass(slots=True)
class _File:
    synced: int = 0
    changes: list[tuple[int, Change]] = field(default_factory=list)


_NAMES = frozenset({"mkdir", "rmdir", "create", "unlink", "rename"})


class Disk:
    """The log of one folder; see above. Everything that stands in it at the beginning counts as synced."""

    def __init__(self, root: Path) -> None:
        self.root = str(root.resolve())
        self.log: list[Change] = []
        self._lock = threading.RLock()
        self._files: dict[tuple[int, int], int] = {}
        self._descriptors: dict[int, tuple[int, str]] = {}
        self._count = 0
        self._real: dict[str, Any] = {}

    def mark(self, what: str, value: Any) -> None:
        """Puts something of one's own into the log, behind all that was done before."""
        with self._lock:
            self._add(Change(what, time.monotonic(), value=value))

    def __enter__(self) -> Self:
        for name in (
            "open",
            "close",
            "write",
            "pwrite",
            "ftruncate",
            "fsync",
            "fdatasync",
            "mkdir",
            "rmdir",
            "unlink",
            "rename",
            "replace",
        ):
            self._real[name] = getattr(os, name)
        self._take_in()
        for name in self._real:
            setattr(os, name, getattr(self, f"_{name}"))
        return self

    def _take_in(self) -> None:
        """Logs what stands there already, as synced."""
        now = time.monotonic()
        folders = [self.root]
        for place in sorted(Path(self.root).rglob("*")):
            if place.is_dir():
                folders.append(str(place))
                self.log.append(Change("mkdir", now, path=str(place)))
            else:
                number = self._number(place.stat(), new=True)
                self.log.append(Change("create", now, number, str(place)))
                self.log.append(Change("write", now, number, data=place.read_bytes()))
                self.log.append(Change("sync", now, number, covers=len(self.log)))
        covers = len(self.log)
        self.log += [Change("sync folder", now, path=folder, covers=covers) for folder in folders]

    def __exit__(self, *_: object) -> None:
        for name, real in self._real.items():
            setattr(os, name, real)

    def cut(self, into: Path) -> None:
        """Loses power now: leaves in ``into`` what the disk holds, and ends the process at once."""
        self._lock.acquire()  # and never lets go: no other thread writes, syncs or confirms any more
        self.after_cut(len(self.log), into, random.Random(len(self.log)))
        os._exit(KILLED)

    def after_cut(self, moment: int, into: Path, dice: random.Random | None = None) -> None:
        """Builds in ``into`` what the disk holds when the power goes before entry ``moment`` of the log."""
        files: dict[int, _File] = {}
        folders, names = {self.root}, dict[str, int]()
        pending: list[tuple[int, Change]] = []
        for index, change in enumerate(self.log[:moment]):
            if change.what in _NAMES:
                pending.append((index, change))
            elif change.what in ("write", "truncate"):
                files.setdefault(change.file, _File()).changes.append((index, change))
            elif change.what == "sync":
                files.setdefault(change.file, _File()).synced = change.covers
            elif change.what == "sync folder":
                covered = [
                    (at, one) for at, one in pending if at < change.covers and change.path in one.folders
                ]
                for at, one in covered:
                    pending.remove((at, one))
                    _apply(one, folders, names)
        for _, one in pending:
            if dice is not None and dice.random() < 0.5:
                _apply(one, folders, names)
        for folder in sorted(folders):
            if _reachable(folder, folders, self.root):
                (into / os.path.relpath(folder, self.root)).mkdir(parents=True, exist_ok=True)
        for path, number in names.items():
            if _reachable(os.path.dirname(path), folders, self.root):
                content = _content(files.get(number, _File()), dice)
                (into / os.path.relpath(path, self.root)).write_bytes(content)

    def _add(self, change: Change) -> None:
        self.log.append(change)

    def _inside(self, path: Any) -> str:
        if isinstance(path, int):
            return ""
        name = os.path.abspath(os.fspath(path))
        return name if isinstance(name, str) and (name + "/").startswith(self.root + "/") else ""

    def _number(self, status: os.stat_result, *, new: bool) -> int:
        key = status.st_dev, status.st_ino
        if new or key not in self._files:
            self._count += 1
            self._files[key] = self._count
        return self._files[key]

    def _open(self, path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        descriptor: int
        name = self._inside(path)
        if not name:
            descriptor = self._real["open"](path, flags, *args, **kwargs)
            self._descriptors.pop(descriptor, None)  # one that was closed by another way than ``os.close``
            return descriptor
        with self._lock:
            existed = os.path.exists(name)
            descriptor = self._real["open"](path, flags, *args, **kwargs)
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                self._descriptors[descriptor] = 0, name
                return descriptor
            number = self._number(status, new=not existed)
            self._descriptors[descriptor] = number, name
            if not existed:
                self._add(Change("create", time.monotonic(), number, name))
            elif flags & os.O_TRUNC:
                self._add(Change("truncate", time.monotonic(), number))
            return descriptor

    def _close(self, descriptor: int) -> None:
        with self._lock:
            self._descriptors.pop(descriptor, None)
            self._real["close"](descriptor)

    def _write(self, descriptor: int, data: bytes) -> int:
        if descriptor not in self._descriptors:
            return self._real["write"](descriptor, data)
        with self._lock:
            written: int = self._real["write"](descriptor, data)
            number, _ = self._descriptors[descriptor]
            offset = os.lseek(descriptor, 0, os.SEEK_CUR) - written
            self._add(Change("write", time.monotonic(), number, offset=offset, data=bytes(data[:written])))
            return written

    def _pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        with self._lock:
            written: int = self._real["pwrite"](descriptor, data, offset)
            if descriptor in self._descriptors:
                number, _ = self._descriptors[descriptor]
                self._add(
                    Change("write", time.monotonic(), number, offset=offset, data=bytes(data[:written]))
                )
            return written

    def _ftruncate(self, descriptor: int, size: int) -> None:
        with self._lock:
            self._real["ftruncate"](descriptor, size)
            if descriptor in self._descriptors:
                self._add(Change("truncate", time.monotonic(), self._descriptors[descriptor][0], offset=size))

    def _fsync(self, descriptor: int) -> None:
        self._sync("fsync", descriptor)

    def _fdatasync(self, descriptor: int) -> None:
        self._sync("fdatasync", descriptor)

    def _sync(self, name: str, descriptor: int) -> None:
        with self._lock:
            number, path = self._descriptors.get(descriptor, (0, ""))
            covers = len(self.log)
        self._real[name](descriptor)
        if not path:
            return
        with self._lock:
            what = "sync" if number else "sync folder"
            self._add(Change(what, time.monotonic(), number, path, covers=covers))

    def _mkdir(self, path: Any, *args: Any, **kwargs: Any) -> None:
        self._name("mkdir", "mkdir", path, *args, **kwargs)

    def _rmdir(self, path: Any, **kwargs: Any) -> None:
        self._name("rmdir", "rmdir", path, **kwargs)

    def _unlink(self, path: Any, **kwargs: Any) -> None:
        self._name("unlink", "unlink", path, **kwargs)

    def _name(self, function: str, what: str, path: Any, *args: Any, **kwargs: Any) -> None:
        with self._lock:
            self._real[function](path, *args, **kwargs)
            if name := self._inside(path):
                self._add(Change(what, time.monotonic(), path=name))

    def _rename(self, source: Any, target: Any, **kwargs: Any) -> None:
        self._move("rename", source, target, **kwargs)

    def _replace(self, source: Any, target: Any, **kwargs: Any) -> None:
        self._move("replace", source, target, **kwargs)

    def _move(self, function: str, source: Any, target: Any, **kwargs: Any) -> None:
        with self._lock:
            self._real[function](source, target, **kwargs)
            if name := self._inside(source):
                number = self._number(os.stat(target), new=False)
                self._add(Change("rename", time.monotonic(), number, name, self._inside(target)))


def _apply(change: Change, folders: set[str], names: dict[str, int]) -> None:
    if change.what == "mkdir":
        folders.add(change.path)
    elif change.what == "rmdir":
        folders.discard(change.path)
    elif change.what == "create":
        names[change.path] = change.file
    else:
        names.pop(change.path, None)
        if change.what == "rename":
            names[change.other] = change.file


def _reachable(folder: str, folders: set[str], root: str) -> bool:
    while folder != root:
        if folder not in folders:
            return False
        folder = os.path.dirname(folder)
    return True


def _content(file: _File, dice: random.Random | None) -> bytes:
    content = bytearray()
    for _, change in (one for one in file.changes if one[0] < file.synced):
        _change(content, change, change.data)
    rest = [change for index, change in file.changes if index >= file.synced]
    if dice is None or not rest:
        return bytes(content)
    for change in rest[: dice.randint(0, len(rest))]:
        if dice.random() >= _HOLE:
            _change(content, change, change.data)
    if dice.random() < _TORN:
        change = dice.choice(rest)
        _change(content, change, change.data[: dice.randint(0, len(change.data))])
    return bytes(content)


def _change(content: bytearray, change: Change, data: bytes) -> None:
    if change.what == "truncate":
        del content[change.offset :]
        return
    content.extend(bytes(max(0, change.offset - len(content))))
    content[change.offset : change.offset + len(data)] = data


def _main(root: str, into: str, trigger: str, *command: str) -> None:
    disk = Disk(Path(root))

    def wait() -> None:
        while not os.path.exists(trigger):
            time.sleep(0.005)
        disk.cut(Path(into))

    threading.Thread(target=wait, daemon=True).start()
    with disk:
        if command[0] == "-m":
            sys.argv = list(command[1:])
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(command)
            runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    _main(*sys.argv[1:])
