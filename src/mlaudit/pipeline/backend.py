"""The backend of a pipeline in production: keys and policy from files, spool on disk, collector over OTLP/HTTP."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mlaudit._version import __version__
from mlaudit.deliver.send.delivery import SpooledDelivery
from mlaudit.deliver.send.otlp import Envelope
from mlaudit.deliver.send.sender import Sender
from mlaudit.deliver.send.tally import Tally
from mlaudit.deliver.send.transport import HttpTransport, Receiver
from mlaudit.deliver.spool import layout
from mlaudit.deliver.spool.lock import is_locked
from mlaudit.deliver.spool.retained import Retention
from mlaudit.deliver.spool.spool import StreamSpool
from mlaudit.errors import CheckpointError, KeyFileError
from mlaudit.event import new_record_id
from mlaudit.pipeline.adoption import Adopter
from mlaudit.pipeline.metrics import observe_export
from mlaudit.pipeline.service_memory import Memory
from mlaudit.pipeline.stream import Stream
from mlaudit.policy.evaluate import CompiledPolicy, compile_policy
from mlaudit.seal import keys
from mlaudit.seal.chain import Chain
from mlaudit.seal.checkpoint_files import CheckpointFolder, Exported, append_note
from mlaudit.seal.plugged_signer import FILE, PluggedSigner
from mlaudit.seal.rotation import rotation_note

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlaudit.policy.model import Policy
    from mlaudit.records.build import RecordBuilder
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
        self._retention = Retention(settings.spool_dir, settings.retain_seconds, settings.retain_bytes)
        self._adopter = Adopter(
            settings.spool_dir,
            settings.spool_max_bytes,
            self._retention,
            self._deliver_adopted,
            self.signer,
            self.publish,
        )
        self._policy: Policy | None = None
        self._signer: Signer | None = None
        self._key_stamp: keys.Stamp | None = None
        self._memory: Memory | None = None

    def policy(self) -> CompiledPolicy:
        """Loads and compiles the policy, with the key of the pseudonyms.

        Raises:
            PolicyError, KeyFileError: the policy or the key is invalid.
        """
        return compile_policy(self._written(), pseudonym_key(self._settings))

    def snapshot(self) -> dict[str, Any]:
        """The policy in the form that a later start compares its own policy with."""
        from mlaudit.policy.compare import snapshot

        return snapshot(self._written())

    def _written(self) -> Policy:
        if self._policy is None:
            from mlaudit.policy.load import load_policy

            self._policy = load_policy(self._settings.policy)
        return self._policy

    def memory(self) -> Memory:
        """The memory of the last start of this service."""
        if self._memory is None:
            self._memory = Memory(self._settings.state_dir, self._settings.service_name)
        return self._memory

    def signer(self) -> Signer:
        """The signer of checkpoints; a key file is read again after it was replaced.

        Raises:
            KeyFileError: the key cannot be read or created.
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
        """The statement of ``mlaudit keys rotate`` that introduced this key, or the empty string."""
        return rotation_note(signing_key_file(self._settings).parent, key.id)

    def publish(self, note: str) -> None:
        """Writes a checkpoint to the export folder and file, if they are configured.

        Raises:
            CheckpointError: it cannot be written, or contradicts an exported one.
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
                "the spool was restored to an earlier state, or the file was altered"
            )

    def open_stream(self, builder: RecordBuilder, report: Callable[[int, str], object]) -> Stream:
        """A new stream on the spool, not started.

        Raises:
            SpoolError, KeyFileError: the folder or the key cannot be used.
        """
        signer = self.signer()
        stream_id = new_record_id()
        settings = self._settings
        spool = StreamSpool.create(settings.spool_dir, stream_id, settings.spool_max_bytes, self._retention)
        spool.on_damage = report
        delivery = self._deliver(spool, report)
        self.tally.watch(delivery, adopted=False)
        return Stream(Chain(stream_id), delivery, builder, signer)

    def is_written(self, stream_id: str) -> bool:
        """Whether a living process holds the stream's lock."""
        folder = layout.stream_folder(self._settings.spool_dir, stream_id)
        return folder.is_dir() and is_locked(folder)

    def adopt(
        self,
        builder: RecordBuilder,
        own_stream: str = "",
        report: Callable[[int, str], object] = lambda count, reason: None,
        seconds: float = _ADOPT_SECONDS,
    ) -> int:
        """Drains every stream of the spool whose process has ended; see ``Adopter.adopt``."""
        return self._adopter.adopt(builder, own_stream, report, seconds)

    def _deliver_adopted(self, spool: StreamSpool, report: Callable[[int, str], object]) -> SpooledDelivery:
        delivery = self._deliver(spool, report)
        self.tally.watch(delivery, adopted=True)
        return delivery

    def _deliver(self, spool: StreamSpool, report: Callable[[int, str], object]) -> SpooledDelivery:
        settings = self._settings
        envelope = Envelope(_resource(settings), "mlaudit", __version__)
        sender = Sender(
            spool,
            HttpTransport(receiver(settings)),
            envelope,
            lambda count, reason: report(count, f"quarantined: {reason}"),
            observe_export,
        )
        return SpooledDelivery(spool, sender)


def receiver(settings: Settings) -> Receiver:
    """The receiver of the records."""
    return Receiver(
        settings.endpoint,
        settings.headers,
        settings.token_file,
        settings.ca_file,
        settings.client_cert_file,
        settings.client_key_file,
        settings.compression == "gzip",
    )


def signing_key(settings: Settings) -> Signer:
    """The configured signing key, else the one of the state folder, created on first use.

    Raises:
        KeyFileError: it cannot be read or created.
    """
    name = settings.host_name or "mlaudit"
    return _key(
        settings.signing_key_file,
        keys_dir(settings) / keys.SIGNING_KEY,
        keys.load_signing_key,
        lambda path: keys.create_signing_key(path, name),
    )


def signing_key_file(settings: Settings) -> Path:
    """The path of the signer's key file, existing or to be created."""
    return settings.signing_key_file or keys_dir(settings) / keys.SIGNING_KEY


def pseudonym_key(settings: Settings) -> bytes:
    """The configured key of the pseudonyms, else the one of the state folder, created on first use.

    Raises:
        KeyFileError: it cannot be read or created.
    """
    own = keys_dir(settings) / keys.PSEUDONYM_KEY
    return _key(settings.pseudonym_key_file, own, keys.load_pseudonym_key, keys.create_pseudonym_key)


def keys_dir(settings: Settings) -> Path:
    """The folder of the default keys."""
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
    # Several workers start at once, and the one that creates the key may still be writing it.
    deadline = time.monotonic() + 2.0
    while True:
        try:
            return load(own)
        except KeyFileError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


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
