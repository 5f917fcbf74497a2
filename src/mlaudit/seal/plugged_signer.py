"""External signers: a key management service or a hardware module, behind an entry point.

``MLAUDIT_SIGNER=name:reference`` loads the entry point ``name`` of the group ``mlaudit_signers`` and calls it with
``reference`` (the part after the colon, may be empty). It returns a ``seal.checkpoint.Signer``.
"""

from __future__ import annotations

import threading
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

from mlaudit.errors import SignerError
from mlaudit.seal.checkpoint import Signer, VerifyingKey

if TYPE_CHECKING:
    from collections.abc import Callable

GROUP: Final = "mlaudit_signers"
FILE: Final = "file"
_SECONDS: Final = 5.0


class PluggedSigner:
    """The signer of an entry point, checked at each call: a late or invalid answer raises SignerError.

    Nothing is loaded or called before it is needed, so a service that is unreachable at the start costs signatures,
    not records.
    """

    def __init__(self, name: str, seconds: float = _SECONDS) -> None:
        """``name`` is the value of MLAUDIT_SIGNER; ``seconds`` is the time limit of a call."""
        self._name, _, self._reference = name.partition(":")
        self._seconds = seconds
        self._signer: Signer | None = None
        self._key: VerifyingKey | None = None
        self._turn = threading.Lock()
        self._call: threading.Thread | None = None

    @property
    def public_key(self) -> VerifyingKey:
        """The signer's key, which is requested once."""
        if self._key is None:
            key = self._in_time(lambda: self._loaded().public_key)
            if not isinstance(key, VerifyingKey) or len(key.raw) != 32:
                raise SignerError(f"signer {self._name}: expected an Ed25519 VerifyingKey, found {key!r:.80}")
            self._key = key
        return self._key

    def sign(self, message: bytes) -> bytes:
        """The signature, after it was verified with the public key."""
        key = self.public_key
        signature = self._in_time(lambda: self._loaded().sign(message))
        if not isinstance(signature, bytes) or not key.verifies(signature, message):
            raise SignerError(
                f"signer {self._name}: expected a signature by key {key.id}, found an invalid one"
            )
        return signature

    def _loaded(self) -> Signer:
        if self._signer is None:
            found = list(entry_points(group=GROUP, name=self._name))
            if len(found) != 1:
                known = sorted(point.name for point in entry_points(group=GROUP))
                raise SignerError(
                    f"MLAUDIT_SIGNER: expected one entry point {self._name!r} of the group {GROUP}, found "
                    f"{len(found)} (installed: {', '.join(known) or 'none'}); install the package that provides it"
                )
            self._signer = found[0].load()(self._reference)
        return self._signer

    def _in_time(self, work: Callable[[], Any]) -> Any:
        """The result of ``work``, which runs in its own thread, one at a time; a hanging thread is abandoned."""
        if not self._turn.acquire(timeout=self._seconds):
            raise SignerError(
                f"signer {self._name}: expected a free signer, found a signature still in progress"
            )
        try:
            if self._call is not None and self._call.is_alive():
                raise SignerError(
                    f"signer {self._name}: expected a free signer, found the previous call still running"
                )
            outcome: dict[str, Any] = {}

            def run() -> None:
                try:
                    outcome["result"] = work()
                except BaseException as error:  # noqa: BLE001 - whatever it is, it stays out of the service
                    outcome["error"] = error

            self._call = threading.Thread(target=run, name="mlaudit-signer", daemon=True)
            self._call.start()
            self._call.join(self._seconds)
        finally:
            self._turn.release()
        if "result" in outcome:
            return outcome["result"]
        error = outcome.get("error")
        if error is None:
            raise SignerError(
                f"signer {self._name}: expected an answer within {self._seconds:g} s, found none"
            )
        if isinstance(error, SignerError):
            raise error
        # The error's text may contain secrets, which must not be logged.
        raise SignerError(f"signer {self._name}: {type(error).__name__}") from error
