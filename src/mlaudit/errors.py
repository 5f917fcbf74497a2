"""The one error tree of mlaudit.

Every message says what was expected, what was found, and what to do about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class MlauditError(Exception):
    """Root of every error that mlaudit raises on purpose.

    An error whose constructor takes anything but its message says in ``__reduce__`` how it is made again: a worker
    process hands its errors to its parent as pickles, and a pool waits for ever for one that cannot be read.
    """


class SettingsError(MlauditError):
    """One or more ``MLAUDIT_*`` variables are wrong; ``faults`` lists every one of them."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(_listed("mlaudit settings are wrong", self.faults))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.faults,), self.__dict__


class PolicyError(MlauditError):
    """A policy file is wrong; ``faults`` lists every one, each with its place in the file."""

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        self.source = source
        self.faults = tuple(faults)
        super().__init__(_listed(f"policy {source} is wrong", self.faults))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.source, self.faults), self.__dict__


class CatalogError(MlauditError):
    """The event catalog contradicts itself; ``faults`` lists every contradiction."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(_listed("the event catalog is wrong", self.faults))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.faults,), self.__dict__


class EventError(MlauditError):
    """An event cannot become a record: a value that JSON cannot carry faithfully, an unknown kind."""


class KeyFileError(MlauditError):
    """A key file is missing, malformed, or readable by others."""


class SignerError(MlauditError):
    """A signer gave no signature; checkpoints wait and are tried again, records go on.

    A signer raises it with a text that may be recorded. Of any other exception only the class is recorded.
    """


class CheckpointError(MlauditError):
    """A checkpoint contradicts one that was exported before, or cannot be exported."""


class TimestampError(MlauditError):
    """A time-stamp could not be had, or does not prove what it should."""


class ChainError(MlauditError):
    """A sealed entry does not continue the chain it was given to."""


class SpoolError(MlauditError):
    """The spool cannot take or give a record."""


class SpoolFullError(SpoolError):
    """The spool has reached its configured size."""


class SpoolUnavailableError(SpoolError):
    """The spool folder cannot be written."""


class DiskFullError(SpoolUnavailableError):
    """The disk that holds the spool, or a quota on it, is full."""


class UnreadableSegmentError(SpoolError):
    """A segment of the spool cannot be read, and trying again will not help."""


class UnconfirmedError(SpoolUnavailableError):
    """The disk did not confirm a record; it was written, and may still be confirmed and delivered later."""

    def __init__(self) -> None:
        super().__init__("the disk did not confirm the record")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (), self.__dict__


class StreamOverError(MlauditError):
    """A stream takes no more records: it was ended, or an interrupted write left it in doubt."""


class AuditRefusedError(MlauditError):
    """The policy says ``on_failure: refuse`` and the action could not be recorded.

    Raised in place of the action or of its result: let it pass, or answer that the service is unavailable (HTTP 503).
    """


class DeliveryError(MlauditError):
    """The receiver did not fully acknowledge a batch; the records stay in the spool."""


class SourceError(MlauditError):
    """Verification could not check: the source is absent, unreadable or refuses."""


class RuleError(MlauditError):
    """A detection rule cannot be compiled, or says something that its queries would not do."""


class InstallError(MlauditError):
    """An asset could not be installed into the cluster."""


class ClusterError(InstallError, SourceError):
    """An Elasticsearch cluster cannot be reached, refuses, or answers only in part."""


class StackError(MlauditError):
    """The local stack cannot start or stop; says what is missing and how to get it."""


def _listed(title: str, faults: Sequence[str]) -> str:
    return title + ":" + "".join(f"\n  - {fault}" for fault in faults)
