"""Reading model files without running them: digest, and the class that a pickle names first."""

from __future__ import annotations

import bz2
import hashlib
import io
import lzma
import math
import os
import pickletools
import struct
import zlib
from pathlib import Path
from typing import Any, Final, NamedTuple

from mlaudit.safety.regular import open_regular

_HEAD: Final = 64 << 10
_CHUNK: Final = 1 << 20
_PICKLES: Final = {
    ".joblib",
    ".pkl",
    ".pickle",
    ".sav",
    ".model",
    ".z",
    ".gz",
    ".bz2",
    ".xz",
    ".lzma",
    ".lz4",
}
_FORMATS: Final = {".txt", ".json", ".ubj", ".onnx", ".pt", ".pth", ".ckpt", ".keras", ".h5", ".safetensors"}
_SUFFIXES: Final = frozenset(_PICKLES | _FORMATS)
_NEUTRAL: Final = ("copyreg.", "copy_reg.", "builtins.", "__builtin__.")


class Artifact(NamedTuple):
    """A model file as it stands.

    Attributes:
        path: absolute path, or the class of a file object that has none.
        name: the file's name without its endings.
        digest: SHA-256 of its bytes, "" when a file object can be read only once.
        size: bytes, -1 when unknown.
        cls: the class that its pickle names first, read without unpickling; "" when unknown.
        mark: device, inode, size and time of change, to notice a file that changes while it is read.
    """

    path: str
    name: str
    digest: str = ""
    size: int = -1
    cls: str = ""
    mark: tuple[int, ...] = ()


def read(source: Any, ignored: frozenset[str] = frozenset()) -> Artifact:
    """Reads a path or an open file, whose position stays as it was.

    A folder is digested as the sorted lines ``<digest>  <relative path>`` of its files, as ``sha256sum`` writes them,
    without those whose relative path is ``ignored``.

    Raises:
        OSError: the file cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        path = os.path.abspath(os.fsdecode(source))  # noqa: PTH100 - as written: a link's name is its name
        if os.path.isdir(path):  # noqa: PTH112
            return _folder(path, ignored)
        with open_regular(path) as file:
            digest, size, head = _consume(file)
            return Artifact(path, name_of(path), digest, size, first_class(head), _mark(file.fileno()))
    path = where(source)
    if not _can_reread(source):
        return Artifact(path, name_of(path))
    begin = source.tell()
    try:
        if not hasattr(source, "peek"):
            source.seek(0)  # as joblib does where it cannot peek
        digest, size, head = _consume(source)
    finally:
        source.seek(begin)
    return Artifact(path, name_of(path), digest, size, first_class(head))


def read_back(target: Any, begin: int) -> Artifact:
    """What was written into an open file from position ``begin`` to its current one.

    Raises:
        OSError: the file cannot be read back.
    """
    path = where(target)
    if begin < 0 or not _can_reread(target):
        return Artifact(path, name_of(path))
    end = target.tell()
    target.seek(begin)
    try:
        digest, size, _ = _consume(target, end - begin)
    finally:
        target.seek(end)
    return Artifact(path, name_of(path), digest, size)


def where(file: Any) -> str:
    """The path of an open file, or its type in brackets."""
    name = getattr(file, "name", None)
    if isinstance(name, str | bytes) and name:
        return os.path.abspath(os.fsdecode(name))  # noqa: PTH100
    return f"<{type(file).__name__}>"


def name_of(path: str) -> str:
    """``/models/credit-risk.joblib.gz`` is ``credit-risk``."""
    found = Path(path)
    while found.suffix.lower() in _SUFFIXES:
        found = found.with_suffix("")
    return found.name


def unchanged(artifact: Artifact) -> bool:
    """Whether the file is still the one that was read."""
    if not artifact.mark:
        return True
    try:
        return _mark(artifact.path) == artifact.mark
    except OSError:
        return False


def first_class(head: bytes) -> str:
    """The first class or function that a pickle names, from its first bytes; runs nothing of it.

    That is the class of the object for a harmless pickle, and a good hint for a malicious one, e.g. ``posix.system``.
    """
    texts: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(_decompressed(head))):
            found = ""
            if opcode.name in ("GLOBAL", "INST"):
                found = str(argument).replace(" ", ".", 1)
            elif opcode.name == "STACK_GLOBAL" and len(texts) > 1:
                found = f"{texts[-2]}.{texts[-1]}"
            elif "UNICODE" in opcode.name:
                texts.append(str(argument))
            if found and not found.startswith(_NEUTRAL):
                return found[:256]
    except Exception:  # noqa: BLE001 - cut off, damaged, or no pickle at all
        return ""
    return ""


def _folder(path: str, ignored: frozenset[str]) -> Artifact:
    lines = []
    size = 0
    for file in sorted(Path(path).rglob("*")):
        if file.is_file() and file.relative_to(path).as_posix() not in ignored:
            with open_regular(file) as content:
                digest, length, _ = _consume(content)
            size += length
            lines.append(f"{digest}  {file.relative_to(path).as_posix()}\n")
    return Artifact(path, name_of(path), hashlib.sha256("".join(lines).encode()).hexdigest(), size)


def _decompressed(head: bytes) -> bytes:
    if head.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, _HEAD)
    if head.startswith(b"\x78"):
        return zlib.decompressobj().decompress(head, _HEAD)
    if head.startswith(b"BZ"):
        return bz2.BZ2Decompressor().decompress(head, _HEAD)
    if head.startswith(b"PK\x03\x04") and head[8:10] == b"\0\0":
        # PyTorch's archive: its pickle comes first, stored as it is.
        name, extra = struct.unpack_from("<HH", head, 26)
        return head[30 + name + extra :]
    if head.startswith((b"\xfd7zXZ", b"\x5d\x00")):
        return lzma.LZMADecompressor().decompress(head, _HEAD)
    return head


def _consume(file: Any, most: float = math.inf) -> tuple[str, int, bytes]:
    state = hashlib.sha256()
    size = 0
    head = b""
    while size < most and (chunk := file.read(int(min(_CHUNK, most - size)))):
        if not isinstance(chunk, bytes | bytearray | memoryview):
            raise OSError("expected a binary file, found a text file")
        if len(head) < _HEAD:
            head += bytes(chunk[:_HEAD])
        state.update(chunk)
        size += len(chunk)
    return state.hexdigest(), size, head[:_HEAD]


def _can_reread(file: Any) -> bool:
    try:
        return bool(file.seekable() and file.readable())
    except (AttributeError, ValueError):
        return False


def _mark(file: int | str) -> tuple[int, ...]:
    found = os.stat(file)  # noqa: PTH116 - also of an open descriptor
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
