"""A credential as capture saw it: presented and perhaps verified, or checked and not accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.shorten import shortened

if TYPE_CHECKING:
    from mlaudit.event import Actor

_LONGEST: Final = 256


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential that was presented.

    Attributes:
        scheme: ``jwt``, ``api_key``, ``basic``, ``bearer``, ``session`` or another name.
        issuer: who issued it.
        key_id: which key it was or was signed with; never the key.
        actor: the actor it names.
        verified: it was checked; else the application received it, and decides.
        digest: SHA-256 (hex) of a token, to compare it with the one that a request was sent with.
        parameter: of the URL's query that holds it.
    """

    scheme: str
    issuer: str = ""
    key_id: str = ""
    actor: Actor | None = None
    verified: bool = False
    digest: str = ""
    parameter: str = ""

    def fields(self) -> dict[str, Any]:
        """What may be recorded of it, as catalog fields."""
        known = {
            "audit.access.scheme": self.scheme,
            "audit.access.issuer": self.issuer,
            "audit.access.key_id": self.key_id,
        }
        return {name: shortened(value, _LONGEST) for name, value in known.items() if value}


@dataclass(frozen=True, slots=True)
class Failure:
    """A credential that was checked and not accepted.

    ``error`` is a class name, never a message; ``actor`` is the one that the credential claims.
    """

    scheme: str
    error: str
    reason: str
    actor: Actor | None = None

    def fields(self) -> dict[str, Any]:
        """As catalog fields."""
        known = {
            "audit.access.scheme": self.scheme,
            "error.type": self.error,
            "event.reason": self.reason,
        }
        return {name: value for name, value in known.items() if value}
