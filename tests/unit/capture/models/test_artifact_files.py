"""Reading model files without running them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from mlaudit.capture.models import artifact_files
from mlaudit.capture.models.artifact_files import first_class, name_of

if TYPE_CHECKING:
    from pathlib import Path


class Thing:
    """Something to pickle."""


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_first_class_of_every_protocol(protocol: int) -> None:
    """The class of a pickled object is read from its bytes whatever the protocol."""
    assert first_class(pickle.dumps(Thing(), protocol)).endswith("Thing")


@pytest.mark.parametrize("pack", [zlib.compress, gzip.compress, bz2.compress, lzma.compress])
def test_first_class_behind_compression(pack: Any) -> None:
    """Compressed pickles are looked into as far as needed."""
    assert first_class(pack(pickle.dumps({"a": Thing()}))).endswith("Thing")


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"no pickle at all", b"\x1f\x8bdamaged", pickle.dumps([1, 2])]
)
def test_anything_else_names_no_class(content: bytes) -> None:
    """What is no pickle, is damaged or holds plain values names nothing."""
    assert first_class(content) == ""


def test_first_class_in_an_archive_that_begins_with_a_pickle() -> None:
    """PyTorch's files are zip archives, stored, with the pickle first."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(pytest.raises))
        archive.writestr("archive/data/0", b"tensor")
    assert first_class(packed.getvalue()) == "_pytest.raises.raises"


def test_decompression_is_bounded() -> None:
    """A file that unpacks to gigabytes costs no more than its first part."""
    assert len(artifact_files._decompressed(zlib.compress(bytes(200 << 20)))) <= 64 << 10


def test_names() -> None:
    """A model is called by its file without the endings that only tell the format."""
    assert name_of("/models/credit-risk.joblib.gz") == "credit-risk"
    assert name_of("fraud.v2.pkl") == "fraud.v2"
    assert name_of("plain") == "plain"


def test_folder_digest_is_what_sha256sum_says(tmp_path: Path) -> None:
    """A folder's digest covers the names and contents of all of its files."""
    (tmp_path / "m" / "deep").mkdir(parents=True)
    (tmp_path / "m" / "b.bin").write_bytes(b"b")
    (tmp_path / "m" / "deep" / "a.bin").write_bytes(b"a")
    before = artifact_files.read(tmp_path / "m")
    assert before.size == 2
    (tmp_path / "m" / "deep" / "a.bin").rename(tmp_path / "m" / "deep" / "c.bin")
    assert artifact_files.read(tmp_path / "m").digest != before.digest != ""


def test_stream_that_can_be_read_once_has_no_digest() -> None:
    """A pipe is not consumed for a digest."""

    class Pipe(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            raise AssertionError("read")

    assert artifact_files.read(Pipe()).digest == ""
