from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from tests.sealed import SIGNER, STRANGER
from tests.unit.deliver.receiver import Receiver

from mlaudit.deliver.spool import files, layout
from mlaudit.errors import KeyFileError, SignerError
from mlaudit.event import AuditEvent
from mlaudit.pipeline.backend import SpoolBackend, pseudonym_key, signing_key
from mlaudit.pipeline.pipeline import Pipeline
from mlaudit.seal import keys
from mlaudit.seal.checkpoint import SignedNote
from mlaudit.seal.checkpoint_files import CheckpointFolder
from mlaudit.seal.plugged_signer import PluggedSigner
from mlaudit.settings import Settings
from mlaudit.verify.sources.open_source import open_source
from mlaudit.verify.verification import verify_source

PLUGIN = '''
"""A signer as another package would provide it."""
from tests.sealed import SIGNER, STRANGER

behaviour = {"sign": None, "references": []}

class Remote:
    """Signs, or behaves as the test defines."""
    public_key = SIGNER.public_key

    def sign(self, message):
        if behaviour["sign"]:
            return behaviour["sign"](message)
        return SIGNER.sign(message)

def connect(reference):
    behaviour["references"].append(reference)
    return Remote()
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """An installed distribution with a signer; the yielded object controls the signer."""
    site = tmp_path / "site"
    info = site / "test_kms-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "test_kms_signer.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: test-kms\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mlaudit_signers]\ntest-kms = test_kms_signer:connect\n")
    monkeypatch.syspath_prepend(str(site))
    import test_kms_signer  # type: ignore[import-not-found]

    yield test_kms_signer.behaviour
    sys.modules.pop("test_kms_signer", None)


def service(tmp_path: Path, **more: str) -> Pipeline:
    """A pipeline on a spool whose checkpoints the plugin signs, without a collector."""
    settings = Settings.from_env(
        {
            "MLAUDIT_STATE_DIR": str(tmp_path / "state"),
            "MLAUDIT_ENDPOINT": "http://127.0.0.1:9",
            "MLAUDIT_SERVICE_NAME": "signed",
            "MLAUDIT_SIGNER": "test-kms:alias/audit",
            "MLAUDIT_CHECKPOINT_RECORDS": "5",
            "MLAUDIT_CHECKPOINT_SECONDS": "0.2",
            **more,
        }
    )
    pipeline = Pipeline(settings, SpoolBackend(settings))
    pipeline.open()
    return pipeline


def spooled(pipeline: Pipeline) -> list[dict[str, Any]]:
    """The bodies in the spool."""
    bodies = []
    for folder in layout.streams(pipeline.settings.spool_dir):
        for segment in layout.segments(folder):
            for frame in files.read_frames(segment)[0]:
                bodies.append(json.loads(LogRecord.FromString(frame.payload).body.string_value))
    return bodies


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Returns when it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_entry_point_signs(plugin: dict[str, Any], tmp_path: Path) -> None:
    """The signer that the setting names receives its reference, and its signatures verify."""
    pipeline = service(tmp_path)
    for _ in range(7):
        pipeline.emit(AuditEvent("audit.ml.prediction"))
    wait_for(lambda: any(body["audit.kind"] == "audit.stream.checkpoint" for body in spooled(pipeline)))
    pipeline.close("test", 0.0)

    report = verify_source(
        open_source(pipeline.settings.spool_dir), {SIGNER.public_key.id: SIGNER.public_key}
    )
    assert set(plugin["references"]) == {"alias/audit"}
    assert report.findings == []
    assert report.streams[0].state == "ended"


def test_signer_that_fails_costs_no_record(plugin: dict[str, Any], tmp_path: Path) -> None:
    """While the signer is unreachable, records are written and a failure record says so; later it signs again."""

    def away(message: bytes) -> bytes:
        raise ConnectionError("secret-token")

    plugin["sign"] = away
    pipeline = service(tmp_path)
    receipts = [pipeline.emit(AuditEvent("audit.ml.prediction")) for _ in range(20)]
    wait_for(lambda: any(body["audit.kind"] == "audit.pipeline.failure" for body in spooled(pipeline)))
    assert all(receipt.ok for receipt in receipts)
    assert not any("audit.checkpoint.note" in body for body in spooled(pipeline))
    told = next(body for body in spooled(pipeline) if body["audit.kind"] == "audit.pipeline.failure")
    assert (told["audit.component"], told["error.type"]) == ("signer", "SignerError")
    assert pipeline.counts.faults >= 1
    assert "secret-token" not in json.dumps(spooled(pipeline))

    plugin["sign"] = None
    wait_for(lambda: any("audit.checkpoint.note" in body for body in spooled(pipeline)))
    pipeline.close("test", 0.0)

    report = verify_source(
        open_source(pipeline.settings.spool_dir), {SIGNER.public_key.id: SIGNER.public_key}
    )
    assert report.findings == []


def test_signer_that_hangs_holds_up_nobody(plugin: dict[str, Any], tmp_path: Path) -> None:
    """A durable record does not wait for a slow signature."""
    released = threading.Event()
    asked = threading.Event()

    def hang(message: bytes) -> bytes:
        asked.set()
        released.wait(30)
        return SIGNER.sign(message)

    plugin["sign"] = hang
    pipeline = service(tmp_path)
    pipeline.emit(AuditEvent("audit.ml.prediction"))
    assert asked.wait(10)

    begun = time.monotonic()
    receipts = [pipeline.emit(AuditEvent("audit.ml.training.started")) for _ in range(10)]
    took = time.monotonic() - begun

    assert all(receipt.ok for receipt in receipts)
    assert not released.is_set()
    assert took < 4.0, "the signer may take five seconds"
    plugin["sign"] = None
    released.set()
    wait_for(lambda: any("audit.checkpoint.note" in body for body in spooled(pipeline)))
    pipeline.close("test", 0.0)
    report = verify_source(
        open_source(pipeline.settings.spool_dir), {SIGNER.public_key.id: SIGNER.public_key}
    )
    assert report.findings == []


def test_stream_that_could_not_be_ended_is_ended_by_the_next_start(
    plugin: dict[str, Any], tmp_path: Path
) -> None:
    """Without a signature the stream has no end; the next process signs that it was abandoned."""

    def away(message: bytes) -> bytes:
        raise SignerError("away")

    first = service(tmp_path)
    first.emit(AuditEvent("audit.ml.prediction"))
    plugin["sign"] = away
    first.close("test", 0.0)
    assert "audit.stream.ended" not in [body["audit.kind"] for body in spooled(first)]

    plugin["sign"] = None
    second = service(tmp_path)
    wait_for(lambda: any(body["audit.kind"] == "audit.stream.abandoned" for body in spooled(second)))
    second.close("test", 0.0)


def test_unknown_signer_costs_no_record(plugin: dict[str, Any], tmp_path: Path) -> None:
    """A signer that is not installed leaves the stream unsigned, and the error lists the installed ones."""
    pipeline = service(tmp_path, MLAUDIT_SIGNER="nobody:x")

    assert pipeline.emit(AuditEvent("audit.ml.prediction")).ok
    with pytest.raises(SignerError, match=r"found 0 \(installed: .*test-kms"):
        PluggedSigner("nobody:x").sign(b"message")
    pipeline.close("test", 0.0)


def test_false_signature_is_none(plugin: dict[str, Any]) -> None:
    """A signature by another key, or of another length, is refused before it is recorded."""
    signer = PluggedSigner("test-kms")
    plugin["sign"] = STRANGER.sign

    with pytest.raises(SignerError, match="found an invalid one"):
        signer.sign(b"message")
    plugin["sign"] = lambda message: b"short"
    with pytest.raises(SignerError, match="found an invalid one"):
        signer.sign(b"message")


def test_hanging_call_is_left_alone(plugin: dict[str, Any]) -> None:
    """A hanging call does not accumulate threads: the next call is refused until it returns."""
    released = threading.Event()
    signer = PluggedSigner("test-kms", seconds=0.2)
    assert signer.public_key == SIGNER.public_key

    def hang(message: bytes) -> bytes:
        released.wait(20)
        return SIGNER.sign(message)

    plugin["sign"] = hang
    with pytest.raises(SignerError, match="within"):
        signer.sign(b"message")
    before = threading.active_count()
    with pytest.raises(SignerError, match="found the previous call still running"):
        signer.sign(b"message")
    assert threading.active_count() == before
    released.set()
    plugin["sign"] = None

    def signed() -> bool:
        try:
            return SIGNER.public_key.verifies(signer.sign(b"message"), b"message")
        except SignerError:
            return False

    wait_for(signed)


def test_service_exports_its_checkpoints(tmp_path: Path) -> None:
    """Each checkpoint is exported as it is signed, the last one over the very last record."""
    exported = tmp_path / "exported"
    listed = tmp_path / "checkpoints.txt"
    pipeline = service(
        tmp_path,
        MLAUDIT_SIGNER="file",
        MLAUDIT_CHECKPOINT_EXPORT_DIR=str(exported),
        MLAUDIT_CHECKPOINT_EXPORT_FILE=str(listed),
    )
    stream = pipeline.stream
    assert stream is not None
    pipeline.emit(AuditEvent("audit.ml.prediction"))
    wait_for(lambda: (exported / f"{stream.id}.checkpoint").exists())
    pipeline.close("test", 0.0)

    note = SignedNote.parse(CheckpointFolder(exported).path(stream.id).read_text())
    trusted = keys.load_verifier_keys(tmp_path / "state" / "keys")
    assert note.signed_by(trusted) is not None
    assert (note.checkpoint.sequence, note.checkpoint.hash) == stream.head
    assert listed.read_text().count("mlaudit/checkpoint/v1") >= 2


def test_export_that_fails_costs_no_record(tmp_path: Path) -> None:
    """A failure record reports a folder that cannot be written, and the newest checkpoint is exported later."""
    blocked = tmp_path / "mount"
    blocked.write_text("a file where the folder should be")
    pipeline = service(tmp_path, MLAUDIT_SIGNER="file", MLAUDIT_CHECKPOINT_EXPORT_DIR=str(blocked))
    assert pipeline.emit(AuditEvent("audit.ml.prediction")).ok
    wait_for(lambda: any(body["audit.kind"] == "audit.pipeline.failure" for body in spooled(pipeline)))
    told = next(body for body in spooled(pipeline) if body["audit.kind"] == "audit.pipeline.failure")
    assert told["audit.component"] == "checkpoint export"

    blocked.unlink()
    wait_for(lambda: blocked.is_dir() and any(blocked.glob("*.checkpoint")))
    pipeline.close("test", 0.0)


def test_rotated_key_is_taken_over_while_the_service_runs(tmp_path: Path) -> None:
    """The new key signs the next checkpoint after a rotation, and a record with the statement precedes it."""
    from datetime import UTC, datetime, timedelta

    pipeline = service(tmp_path, MLAUDIT_SIGNER="file")
    folder = tmp_path / "state" / "keys"
    pipeline.emit(AuditEvent("audit.ml.prediction"))
    wait_for(lambda: any("audit.checkpoint.note" in body for body in spooled(pipeline)))

    rotation = keys.rotate_signing_key(
        folder / "signing.key", "host-2", datetime.now(UTC), timedelta(hours=1)
    )
    pipeline.emit(AuditEvent("audit.ml.prediction"))
    wait_for(
        lambda: any(body.get("audit.checkpoint.key_id") == rotation.new.id for body in spooled(pipeline))
    )
    pipeline.close("test", 0.0)

    bodies = spooled(pipeline)
    (rotated,) = [body for body in bodies if body["audit.kind"] == "audit.key.rotated"]
    assert (rotated["audit.key.previous.id"], rotated["audit.key.id"]) == (rotation.old.id, rotation.new.id)
    assert rotated["audit.key.statement"].startswith("mlaudit/rotation/v1\n")
    signed_by = [body["audit.checkpoint.key_id"] for body in bodies if "audit.checkpoint.key_id" in body]
    assert signed_by == sorted(signed_by, key=[rotation.old.id, rotation.new.id].index)
    report = verify_source(open_source(pipeline.settings.spool_dir), keys.load_verifier_keys(folder))
    assert report.findings == []


def test_rotation_between_two_starts_is_recorded(tmp_path: Path) -> None:
    """A service that was down when its key was rotated says so at its next start."""
    from datetime import UTC, datetime, timedelta

    first = service(tmp_path, MLAUDIT_SIGNER="file")
    first.close("test", 0.0)
    path = tmp_path / "state" / "keys" / "signing.key"
    rotation = keys.rotate_signing_key(path, "host-2", datetime.now(UTC), timedelta(hours=1))

    second = service(tmp_path, MLAUDIT_SIGNER="file")
    second.close("test", 0.0)

    rotated = [body for body in spooled(second) if body["audit.kind"] == "audit.key.rotated"]
    assert [body["audit.key.id"] for body in rotated] == [rotation.new.id]


def test_key_that_was_exchanged_without_a_statement_is_told(tmp_path: Path) -> None:
    """Another key without a rotation statement is recorded as such."""
    first = service(tmp_path, MLAUDIT_SIGNER="file")
    first.close("test", 0.0)
    path = tmp_path / "state" / "keys" / "signing.key"
    path.unlink()
    path.with_suffix(".pub").unlink()

    second = service(tmp_path, MLAUDIT_SIGNER="file")
    second.close("test", 0.0)

    (rotated,) = [body for body in spooled(second) if body["audit.kind"] == "audit.key.rotated"]
    assert "audit.key.statement" not in rotated
    assert "without a statement" in rotated["event.reason"]


def test_stream_waits_for_its_end_however_often_it_is_adopted(plugin: dict[str, Any], tmp_path: Path) -> None:
    """While the signer is unreachable a dead stream is delivered and kept; it is closed when the signer is back."""

    def away(message: bytes) -> bytes:
        raise SignerError("away")

    def adopt(own: str = "") -> int:
        backend = SpoolBackend(first.settings)
        return backend.adopt(first._builder, own, seconds=10.0)

    with closing(Receiver()) as receiver:
        first = service(tmp_path, MLAUDIT_ENDPOINT=receiver.endpoint)
        first.emit(AuditEvent("audit.ml.prediction"))
        stream = first.stream
        assert stream is not None
        plugin["sign"] = away
        first.close("test", 10.0)
        assert [adopt(), adopt()] == [0, 0]
        before = [record.event_name for record in receiver.taken]
        plugin["sign"] = None
        assert adopt() == 1

        originals = {record.body.string_value: record.event_name for record in receiver.taken}
    assert "audit.ml.prediction" in before
    assert "audit.stream.abandoned" not in before
    assert list(originals.values())[-1] == "audit.stream.abandoned"
    assert layout.streams(first.settings.spool_dir) == []


@pytest.mark.parametrize("name", ["SIGNING", "PSEUDONYM"])
def test_configured_key_that_others_may_read_is_refused(tmp_path: Path, name: str) -> None:
    """A path in the settings never raises, whatever it leads through."""
    keys.create_signing_key(tmp_path / "elsewhere" / "signing.key", "host-1")
    keys.create_pseudonym_key(tmp_path / "elsewhere" / "pseudonym.key")
    path = tmp_path / "link.key"
    path.symlink_to(tmp_path / "elsewhere" / f"{name.lower()}.key")
    (tmp_path / "link.pub").symlink_to(tmp_path / "elsewhere" / "signing.pub")
    settings = Settings.from_env(
        {"MLAUDIT_STATE_DIR": str(tmp_path / "state"), f"MLAUDIT_{name}_KEY_FILE": str(path)}
    )
    load = signing_key if name == "SIGNING" else pseudonym_key

    assert load(settings)
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="0640"):
        load(settings)


def test_export_that_fails_at_the_end_begins_no_stream(tmp_path: Path) -> None:
    """A failure after the last record is logged: a record would start a stream without an end."""
    blocked = tmp_path / "mount"
    blocked.write_text("a file where the folder should be")
    pipeline = service(
        tmp_path,
        MLAUDIT_SIGNER="file",
        MLAUDIT_CHECKPOINT_SECONDS="60",
        MLAUDIT_CHECKPOINT_RECORDS="1000",
        MLAUDIT_CHECKPOINT_EXPORT_DIR=str(blocked),
    )
    pipeline.emit(AuditEvent("audit.ml.prediction"))

    pipeline.close("test", 0.0)

    assert [body["audit.kind"] for body in spooled(pipeline)][-1] == "audit.stream.ended"
    assert len(layout.streams(pipeline.settings.spool_dir)) == 1
    assert pipeline.stream is None
