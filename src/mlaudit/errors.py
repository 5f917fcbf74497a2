"""The exception hierarchy of mlaudit.

Every message says what was expected, what was found, and what to do about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class MlauditError(Exception):
    """Base class of every error that mlaudit raises on purpose.

    An error whose constructor takes other arguments than its message defines ``__reduce__``: a worker process pickles
    its errors for its parent, and a pool waits forever for an error that cannot be unpickled.
    """


class SettingsError(MlauditError):
    """One or more ``MLAUDIT_*`` variables are invalid; ``faults`` lists every one of them."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(_listed("mlaudit settings are wrong", self.faults))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.faults,), self.__dict__


class PolicyError(MlauditError):
    """A policy file is invalid; ``faults`` lists every fault with its place in the file."""

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        self.source = source
        self.faults = tuple(faults)
        super().__init__(_listed(f"policy {source} is wrong", self.faults))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.source, self.faults), self.__dict__


class CatalogError(MlauditError):
    """The event catalog is inconsistent; ``faults`` lists every inconsistency."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(_listed("the event catalog is wrong", self.faults))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.faults,), self.__dict__


class EventError(MlauditError):
    """An event cannot be recorded: JSON cannot represent one of its values exactly, or its kind is unknown."""


class KeyFileError(MlauditError):
    """A key file is missing, malformed, or readable by others."""


class SignerError(MlauditError):
    """Signing failed; the checkpoint is retried, and records are written as before.

    A signer raises it with a text that may be recorded. Of any other exception only the class is recorded.
    """


class CheckpointError(MlauditError):
    """A checkpoint contradicts an exported one, or cannot be exported."""


class TimestampError(MlauditError):
    """A time-stamp could not be obtained, or does not prove what it should."""


class ChainError(MlauditError):
    """A sealed entry does not continue the chain that it was added to."""


class SpoolError(MlauditError):
    """The spool cannot store or read a record."""


class SpoolFullError(SpoolError):
    """The spool has reached its configured size."""


class SpoolUnavailableError(SpoolError):
    """The spool folder cannot be written."""


class DiskFullError(SpoolUnavailableError):
    """The disk that holds the spool, or a quota on it, is full."""


class UnreadableSegmentError(SpoolError):
    """A segment of the spool cannot be read, and a retry will not help."""


class UnconfirmedError(SpoolUnavailableError):
    """The disk did not confirm a record. It was written, and may still be confirmed and delivered later."""

    def __init__(self) -> None:
        super().__init__("the disk did not confirm the record")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (), self.__dict__


class StreamOverError(MlauditError):
    """A stream accepts no more records: it was ended, or an interrupted write left it inconsistent."""


class AuditRefusedError(MlauditError):
    """The action could not be recorded, and the policy says ``on_failure: refuse``.

    Raised in place of the action or of its result. Do not catch it, or answer that the service is unavailable (HTTP
    503).
    """


class DeliveryError(MlauditError):
    """The receiver did not fully acknowledge a batch; the records stay in the spool."""


class SourceError(MlauditError):
    """Verification could not check a source: it is absent, unreadable or refuses access."""


class RuleError(MlauditError):
    """A detection rule cannot be compiled, or contradicts its queries."""


class InstallError(MlauditError):
    """An asset could not be installed into the cluster."""


class ClusterError(InstallError, SourceError):
    """An Elasticsearch cluster is unreachable, refuses a request, or answers only in part."""


class StackError(MlauditError):
    """The local stack cannot start or stop; the message says what is missing and how to get it."""


def _listed(title: str, faults: Sequence[str]) -> str:
    return title + ":" + "".join(f"\n  - {fault}" for fault in faults)
