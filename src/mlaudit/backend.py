"""The real thing behind a pipeline: keys and policy from files, the spool on disk, the collector over OTLP/HTTP."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mlaudit._version import __version__
from mlaudit.checkpoints import CheckpointFolder, Exported, append_note
from mlaudit.deliver import files, layout
from mlaudit.deliver.otlp import Envelope
from mlaudit.deliver.sender import Sender, SpooledDelivery
from mlaudit.deliver.spool import StreamSpool
from mlaudit.deliver.tally import Tally
from mlaudit.deliver.transport import HttpTransport, Receiver
from mlaudit.errors import CheckpointError, KeyFileError, MlauditError, SignerError
from mlaudit.event import new_record_id
from mlaudit.heartbeat import note_adopter
from mlaudit.memory import Memory
from mlaudit.policy.evaluate import CompiledPolicy, compile_policy
from mlaudit.seal import keys
from mlaudit.seal.chain import Chain
from mlaudit.signers import FILE, PluggedSigner
from mlaudit.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mlaudit.policy.model import Policy
    from mlaudit.record.build import RecordBuilder
    from mlaudit.seal.checkpoint import Signer, VerifyingKey
    from mlaudit.settings import Settings

_ADOPT_SECONDS: Final = 30.0
_logger = logging.getLogger("mlaudit")
_Key = TypeVar("_Key")


class SpoolBackend:
    """See ``pipeline.Backend``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.tally = Tally(settings.spool_dir)
        self._policy: Policy | None = None
        self._signer: Signer | None = None
        self._key_stamp: keys.Stamp | None = None
        self._memory: Memory | None = None

    def policy(self) -> CompiledPolicy:
        """Loads and compiles the policy, with the key of the pseudonyms.

        Raises:
            PolicyError, KeyFileError: what is wrong, and where.
        """
        return compile_policy(self._written(), pseudonym_key(self._settings))

    def snapshot(self) -> dict[str, Any]:
        """The policy in the form that a later start compares with."""
        from mlaudit.policy.compare import snapshot

        return snapshot(self._written())

    def _written(self) -> Policy:
        if self._policy is None:
            from mlaudit.policy.load import load_policy

            self._policy = load_policy(self._settings.policy)
        return self._policy

    def memory(self) -> Memory:
        """What the last start of this service left behind."""
        if self._memory is None:
            self._memory = Memory(self._settings.state_dir, self._settings.service_name)
        return self._memory

    def signer(self) -> Signer:
        """The signer of checkpoints; a key file is read again when it was replaced.

        Raises:
            KeyFileError: the key cannot be read or made.
        """
        settings = self._settings
        if settings.signer != FILE:
            self._signer = self._signer or PluggedSigner(settings.signer)
            return self._signer
        stamp = keys.stamp(signing_key_file(settings))
        if self._signer is None or stamp != self._key_stamp:
            self._signer = signing_key(settings)
            self._key_stamp = stamp or keys.stamp(signing_key_file(settings))
        return self._signer

    def rotation_note(self, key: VerifyingKey) -> str:
        """The statement of ``mlaudit keys rotate`` that brought this key, or the empty string."""
        return keys.rotation_note(signing_key_file(self._settings).parent, key.id)

    def publish(self, note: str) -> None:
        """Puts a checkpoint into the export folder and file, where they are set.

        Raises:
            CheckpointError: it cannot be written, or contradicts what lies there.
        """
        settings = self._settings
        if settings.checkpoint_export_file is not None:
            append_note(settings.checkpoint_export_file, note)
        if settings.checkpoint_export_dir is None:
            return
        folder = CheckpointFolder(settings.checkpoint_export_dir)
        if folder.put(note) is Exported.LATER:
            raise CheckpointError(
                f"{folder.folder}: expected to export a later checkpoint, found a later one there; "
                "the spool was put back to an earlier state, or the file was altered"
            )

    def open_stream(self, builder: RecordBuilder, on_set_aside: Callable[[int, str], object]) -> Stream:
        """A new stream on the spool, not begun.

        Raises:
            SpoolError, KeyFileError: the folder or the key cannot be used.
        """
        signer = self.signer()
        stream_id = new_record_id()
        spool = StreamSpool.create(self._settings.spool_dir, stream_id, self._settings.spool_max_bytes)
        delivery = self._deliver(spool, on_set_aside)
        self.tally.watch(delivery, adopted=False)
        return Stream(Chain(stream_id), delivery, builder, signer)

    def is_written(self, stream_id: str) -> bool:
        """Whether a living process holds the stream's lock."""
        folder = layout.stream_folder(self._settings.spool_dir, stream_id)
        return folder.is_dir() and files.is_locked(folder)

    def adopt(self, builder: RecordBuilder, own_stream: str = "", seconds: float = _ADOPT_SECONDS) -> int:
        """Drains every stream of the spool whose process is gone, for at most ``seconds``.

        A stream that was not ended is first closed with a signed ``audit.stream.abandoned``.

        Returns:
            How many streams were drained and removed.

        Raises:
            KeyFileError: there is no key to sign with.
        """
        deadline = time.monotonic() + seconds
        drained = 0
        for folder in layout.streams(self._settings.spool_dir):
            if folder.name == own_stream:
                continue
            try:
                drained += self._adopt_one(folder, builder, own_stream, deadline)
            except (MlauditError, OSError) as error:
                _logger.warning("%s stays in the spool: %s", folder, error)
        return drained

    def _adopt_one(self, folder: Path, builder: RecordBuilder, own_stream: str, deadline: float) -> bool:
        spool = StreamSpool.adopt(folder, self._settings.spool_max_bytes)
        if spool is None:
            return False
        if not spool.last_sequence:
            spool.close(remove=True)
            return True
        delivery = self._deliver(spool, lambda count, reason: None)
        self.tally.watch(delivery, adopted=True)
        note_adopter(folder, own_stream)
        ended = True
        if not _is_ended(spool):
            chain = Chain(folder.name, spool.last_sequence, spool.last_digest.hex())
            stream = Stream(chain, delivery, builder, self.signer())
            fields: dict[str, str | int] = {"audit.stream.adopted_by": own_stream} if own_stream else {}
            reason = "its process is gone without ending it"
            if spool.torn_bytes:
                reason += f"; {spool.torn_bytes} bytes of an unfinished write were cut off"
            ended = self._abandon(stream, reason, fields)
        delivery.sender.start()
        return delivery.finish(deadline, keep=not ended) and ended

    def _abandon(self, stream: Stream, reason: str, fields: Mapping[str, str | int]) -> bool:
        """Ends a stream that was left behind; False when there is no signature now and the next time has to do."""
        try:
            note = stream.abandon(reason, fields)
        except SignerError as error:
            _logger.warning("stream %s is drained, and is still to be closed: %s", stream.id, error)
            return False
        _logger.warning("stream %s was left behind and is now drained and closed", stream.id)
        try:
            self.publish(note)
        except CheckpointError as error:
            _logger.error("%s", error)
        return True

    def _deliver(self, spool: StreamSpool, on_set_aside: Callable[[int, str], object]) -> SpooledDelivery:
        settings = self._settings
        receiver = Receiver(
            settings.endpoint,
            settings.headers,
            settings.token_file,
            settings.ca_file,
            settings.client_cert_file,
            settings.client_key_file,
            settings.compression == "gzip",
        )
        envelope = Envelope(_resource(settings), "mlaudit", __version__)
        return SpooledDelivery(spool, Sender(spool, HttpTransport(receiver), envelope, on_set_aside))


def signing_key(settings: Settings) -> Signer:
    """The configured signing key, else the one of the state folder, made on first use.

    Raises:
        KeyFileError: it cannot be read or made.
    """
    name = settings.host_name or "mlaudit"
    return _key(
        settings.signing_key_file,
        keys_dir(settings) / keys.SIGNING_KEY,
        keys.load_signing_key,
        lambda path: keys.create_signing_key(path, name),
    )


def signing_key_file(settings: Settings) -> Path:
    """Where the key file of the signer is, or is to be made."""
    return settings.signing_key_file or keys_dir(settings) / keys.SIGNING_KEY


def pseudonym_key(settings: Settings) -> bytes:
    """The configured key of the pseudonyms, else the one of the state folder, made on first use.

    Raises:
        KeyFileError: it cannot be read or made.
    """
    own = keys_dir(settings) / keys.PSEUDONYM_KEY
    return _key(settings.pseudonym_key_file, own, keys.load_pseudonym_key, keys.create_pseudonym_key)


def keys_dir(settings: Settings) -> Path:
    """Where keys live that nobody configured."""
    return settings.state_dir / "keys"


def _key(
    configured: Path | None, own: Path, load: Callable[[Path], _Key], make: Callable[[Path], _Key]
) -> _Key:
    if configured is not None:
        return load(configured)
    if not own.exists():
        try:
            return make(own)
        except KeyFileError:
            if not own.exists():  # otherwise another process of this host was faster
                raise
    # Several workers start at once, and the one that makes the key may still be writing it.
    deadline = time.monotonic() + 2.0
    while True:
        try:
            return load(own)
        except KeyFileError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _is_ended(spool: StreamSpool) -> bool:
    """Whether the stream's last record is one that ends a stream."""
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

    for path in reversed(layout.segments(spool.folder)):
        frames, _ = files.read_frames(path)
        if frames:
            return LogRecord.FromString(frames[-1].payload).event_name in (
                "audit.stream.ended",
                "audit.stream.abandoned",
            )
    return False


def _resource(settings: Settings) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "service.name": settings.service_name,
        "host.name": settings.host_name,
        "process.pid": os.getpid(),
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "mlaudit",
        "telemetry.sdk.version": __version__,
    }
    optional = {
        "service.version": settings.service_version,
        "service.instance.id": settings.service_instance,
        "deployment.environment.name": settings.environment,
    }
    return attributes | {name: value for name, value in optional.items() if value}
