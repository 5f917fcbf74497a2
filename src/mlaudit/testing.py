"""For the tests of services: run code under audit and inspect the records, without a spool or a collector.

::

    def test_prediction_is_audited(audit_records):
        client.post("/predict", json={"rows": [[1.0, 2.0]]})
        (record,) = audit_records.of("audit.ml.prediction")
        assert record["event.outcome"] == "success"
"""

from __future__ import annotations

import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlaudit.deliver.ticket import Ticket
    from mlaudit.pipeline.pipeline import Pipeline

# Every pytest run in an environment with mlaudit loads this module: no heavy imports at the top level.


class AuditLog:
    """The records so far, in the order of their chain. Replaces the spool.

    For tests of a service: ``records``, ``of``, ``kinds``, ``originals``, ``payloads``, ``fail`` and ``heal``. The
    pipeline calls the other methods.
    """

    def __init__(self) -> None:
        self.pipeline: Pipeline
        self._payloads: list[bytes] = []
        self._error: Exception | None = None
        self._lock = threading.Lock()

    @property
    def originals(self) -> list[bytes]:
        """The sealed bytes of each record: UTF-8 JSON, over which its hash is."""
        from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

        with self._lock:
            payloads = list(self._payloads)
        return [LogRecord.FromString(payload).body.string_value.encode() for payload in payloads]

    @property
    def records(self) -> list[dict[str, Any]]:
        """The decoded records: flat, with dotted field names."""
        import orjson

        return [orjson.loads(original) for original in self.originals]

    @property
    def payloads(self) -> list[bytes]:
        """The serialised OTLP LogRecords."""
        with self._lock:
            return list(self._payloads)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The records of one kind."""
        return [record for record in self.records if record["audit.kind"] == kind]

    def kinds(self) -> list[str]:
        """The kind of each record, without the stream's records about itself and the policy."""
        own = ("audit.stream.", "audit.policy.")
        return [kind for record in self.records if not (kind := record["audit.kind"]).startswith(own)]

    def fail(self, error: Exception | None = None) -> None:
        """Makes every further append fail.

        Args:
            error: the error to raise, as the spool would; None for a full spool.
        """
        from mlaudit.errors import SpoolFullError

        self._error = error or SpoolFullError("the spool is full")

    def heal(self) -> None:
        """Makes appends work again."""
        self._error = None

    def writable(self) -> bool:
        """Whether appends work."""
        return self._error is None

    def append(self, sequence: int, digest: bytes, payload: bytes, *, durable: bool) -> Ticket:
        """Stores one frame; see ``deliver.ticket.Delivery``."""
        from mlaudit.deliver.ticket import SAFE

        with self._lock:
            if self._error is not None:
                raise self._error
            self._payloads.append(payload)
        return SAFE

    def forget(self) -> None:
        """Does nothing: a forked child has its own copy of the earlier records."""

    def finish(self, deadline: float, *, keep: bool = False) -> bool:
        """Returns True: there is nothing to send."""
        return True


class _MemoryBackend:
    """A pipeline backend without a spool, with temporary keys."""

    def __init__(self, log: AuditLog, policy: Path | None, state_dir: Path) -> None:
        self._log = log
        self._policy = policy
        self._state_dir = state_dir
        self._memory: Any = None
        self._signer: Any = None

    def policy(self) -> Any:
        from mlaudit.policy.evaluate import compile_policy
        from mlaudit.policy.load import load_policy

        return compile_policy(load_policy(self._policy), b"a pseudonym key for tests only")

    def snapshot(self) -> Any:
        from mlaudit.policy.compare import snapshot
        from mlaudit.policy.load import load_policy

        return snapshot(load_policy(self._policy))

    def memory(self) -> Any:
        from mlaudit.pipeline.service_memory import Memory

        if self._memory is None:
            self._memory = Memory(self._state_dir, "test")
        return self._memory

    def signer(self) -> Any:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        from mlaudit.seal.keys import FileSigner

        if self._signer is None:
            self._signer = FileSigner(Ed25519PrivateKey.generate(), "test")
        return self._signer

    def rotation_note(self, key: Any) -> str:
        return ""

    def publish(self, note: str) -> None:
        """Does nothing: tests export no checkpoints."""

    def open_stream(self, builder: Any, report: Callable[[int, str], object]) -> Any:
        from mlaudit.event import new_record_id
        from mlaudit.pipeline.stream import Stream
        from mlaudit.seal.chain import Chain

        return Stream(Chain(new_record_id()), self._log, builder, self.signer())

    def is_written(self, stream_id: str) -> bool:
        return False

    def adopt(self, builder: Any, own_stream: str, report: Callable[[int, str], object]) -> int:
        return 0


@contextmanager
def capture(
    policy: str | Path | None = None, env: Mapping[str, str] | None = None, *, instrument: bool = True
) -> Iterator[AuditLog]:
    """Runs the block under audit and yields its records.

    Args:
        policy: a policy file, or the text of one; None for the built-in policy.
        env: further ``MLAUDIT_*`` settings.
        instrument: install the hooks into imported libraries, as ``MLAUDIT_ENABLED`` does.

    Raises:
        MlauditError: the policy or the settings are invalid.
    """
    from mlaudit.pipeline import current
    from mlaudit.pipeline.pipeline import Pipeline
    from mlaudit.settings import Settings

    with tempfile.TemporaryDirectory(prefix="mlaudit-test-") as folder:
        state_dir = Path(folder)
        path = policy if isinstance(policy, Path) or policy is None else state_dir / "policy.yaml"
        if isinstance(policy, str):
            (state_dir / "policy.yaml").write_text(policy, encoding="utf-8")
        settings = Settings.from_env(
            {
                "MLAUDIT_ENABLED": "true",
                "MLAUDIT_SERVICE_NAME": "test-service",
                "MLAUDIT_STATE_DIR": folder,
                "MLAUDIT_OTEL": "off",
                **({"MLAUDIT_POLICY": str(path)} if path else {}),
                **(env or {}),
            }
        )
        log = AuditLog()
        log.pipeline = Pipeline(settings, _MemoryBackend(log, settings.policy, state_dir))
        previous = current.install(log.pipeline)
        try:
            log.pipeline.open()
            if instrument:
                from mlaudit.capture.instrumentor import activate

                activate(watch_process=False)
            yield log
        finally:
            current.install(previous)
            log.pipeline.close("the test is over", 0.0)


@pytest.fixture
def audit_records() -> Iterator[AuditLog]:
    """Runs the test under audit with the built-in policy; see ``AuditLog``."""
    with capture() as log:
        yield log
