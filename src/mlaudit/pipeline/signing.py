"""Signs one pipeline's stream when it is due, with the current key, and exports its checkpoints.

A failure here never costs a record: a failing signer or export folder is recorded and retried.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final, Protocol

from mlaudit.catalog.names import KEY_ROTATED
from mlaudit.errors import MlauditError, SignerError, SpoolError
from mlaudit.event import AuditEvent, Target
from mlaudit.safety.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlaudit.pipeline.service_memory import Memory
    from mlaudit.pipeline.stream import Stream
    from mlaudit.seal.checkpoint import Signer, VerifyingKey
    from mlaudit.settings import Settings

_FIRST_PAUSE: Final = 0.5
_LAST_PAUSE: Final = 30.0
_END_SECONDS: Final = 2.0
_MEMORY: Final = "signing_key"

_logger = logging.getLogger("mlaudit")


class Keyring(Protocol):
    """The part of a pipeline's backend that signing needs."""

    def signer(self) -> Signer:
        """The current signer; another one after its key was rotated. Raises KeyFileError."""
        ...

    def rotation_note(self, key: VerifyingKey) -> str:
        """The signed statement that ``key`` replaces another key, or the empty string."""
        ...

    def publish(self, note: str) -> None:
        """Exports a checkpoint, if that is configured. Raises CheckpointError."""
        ...

    def memory(self) -> Memory:
        """The memory of the last start of this service."""
        ...


class Signing:
    """Signs, records rotations of the key, exports checkpoints, and contains failures. Thread-safe.

    Args:
        settings: define how often to sign.
        keyring: the backend.
        write: stores an event about the trail itself in a stream (raises MlauditError).
        fault: records a failure, by component and error.
    """

    def __init__(
        self,
        settings: Settings,
        keyring: Keyring,
        write: Callable[[Stream, AuditEvent], object],
        fault: Callable[[str, BaseException], object],
    ) -> None:
        self._settings = settings
        self._keyring = keyring
        self._write = write
        self._fault = fault
        self._turn = threading.Lock()  # the maintenance thread may still be signing when the process ends
        self._unpublished = ""
        self._backoffs: dict[str, Backoff] = {}  # of the components that failed last

    def begun(self, stream: Stream) -> None:
        """Records in a new stream that the key differs from that of the last start."""
        try:
            self._note_rotation(stream, self._keyring.signer())
        except SignerError as error:
            self._failed("signer", error)

    def tend(self, stream: Stream) -> bool:
        """Signs when it is due; returns whether it did. Called several times a second.

        Raises:
            SpoolError, StreamOverError: the checkpoint's record could not be stored.
        """
        with self._turn:
            return self._tend(stream)

    def _tend(self, stream: Stream) -> bool:
        signed = False
        settings = self._settings
        due = stream.checkpoint_due(settings.checkpoint_records, settings.checkpoint_seconds)
        if due and self._may("signer"):
            try:
                self._unpublished = stream.checkpoint(self._renewed(stream))
                signed = True
                self._backoffs.pop("signer", None)
            except SignerError as error:
                self._failed("signer", error)
        if self._unpublished and self._may("checkpoint export"):
            self._publish()
        return signed

    def end(self, stream: Stream, reason: str) -> bool:
        """Ends a stream; False when that failed and the process that adopts the stream has to do it.

        The stream must not be removed then. A failure is logged, not recorded: a record would start a new stream.
        """
        recorded, self._fault = self._fault, _logged
        alone = self._turn.acquire(timeout=_END_SECONDS)
        try:
            note = stream.end(reason, self._renewed(stream))
            if alone:  # else an export hangs, and another one would hang as well
                self._unpublished = note
                self._publish()
        except MlauditError as error:
            _logger.error("the audit stream could not be ended: %s", error)
        finally:
            self._fault = recorded
            if alone:
                self._turn.release()
        return stream.closed

    def _renewed(self, stream: Stream) -> Signer | None:
        """The current signer; None for the stream's present one, when the new key cannot be read."""
        try:
            signer = self._keyring.signer()
        except MlauditError as error:
            self._fault("signer", error)
            return None
        self._note_rotation(stream, signer)
        return signer

    def _note_rotation(self, stream: Stream, signer: Signer) -> None:
        """Records that the key differs from the one that this service signed with before."""
        key = signer.public_key
        memory = self._keyring.memory()
        before = memory.get(_MEMORY)
        if before == key.encode():
            return
        if isinstance(before, str):
            note = self._keyring.rotation_note(key)
            fields = {
                "audit.key.id": key.id,
                "audit.key.public_key": key.encode(),
                "audit.key.previous.id": _id_of(before),
                "audit.key.previous.public_key": before,
                "event.reason": "rotated" if note else "another key without a statement of the previous one",
                **({"audit.key.statement": note} if note else {}),
            }
            event = AuditEvent(KEY_ROTATED, target=Target("key", key.id), fields=fields)
            try:
                self._write(stream, event)
            except SpoolError:
                raise
            except MlauditError as error:
                self._fault("signer", error)
        memory.put(_MEMORY, key.encode())

    def _publish(self) -> None:
        try:
            self._keyring.publish(self._unpublished)
        except (MlauditError, OSError) as error:
            self._failed("checkpoint export", error)
            return
        self._unpublished = ""
        self._backoffs.pop("checkpoint export", None)

    def _may(self, component: str) -> bool:
        backoff = self._backoffs.get(component)
        return backoff is None or backoff.is_due

    def _failed(self, component: str, error: BaseException) -> None:
        self._backoffs.setdefault(component, Backoff(_FIRST_PAUSE, _LAST_PAUSE)).defer()
        _logger.warning("%s: %s", component, error)
        self._fault(component, error)


def _logged(component: str, error: BaseException) -> None:
    _logger.error("%s at the end of the stream: %s", component, error)


def _id_of(encoded: str) -> str:
    return encoded.split("+")[1] if encoded.count("+") > 1 else ""
