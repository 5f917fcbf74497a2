"""Users and secrets of a local stack: random, made once, kept in one 0600 file."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from mlaudit.errors import StackError
from mlaudit.stack.stack_layout import write_private

if TYPE_CHECKING:
    from pathlib import Path

ADMIN: Final = "mlaudit-admin"
WRITER: Final = "mlaudit-writer"
TELEMETRY: Final = "mlaudit-telemetry"
READER: Final = "mlaudit-reader"

# What may stand in a bearer token (RFC 6750, section 2.1), without the slash: the name is a file's here.
_SENDER: Final = re.compile(r"[A-Za-z0-9._~+-]{1,200}")
_ITERATIONS: Final = 1000  # the passwords are random: an expensive hash gains nothing


@dataclass(frozen=True, slots=True)
class Credentials:
    """Passwords of the four Elasticsearch users, and the bearer token that a sender shows the collector."""

    admin: str
    writer: str
    telemetry: str
    reader: str
    token: str

    def users(self) -> dict[str, str]:
        """User name to password."""
        return {
            ADMIN: self.admin,
            WRITER: self.writer,
            TELEMETRY: self.telemetry,
            READER: self.reader,
        }


def load_or_make(path: Path) -> Credentials:
    """The credentials in ``path``; new random ones if it is absent.

    Raises:
        StackError: the file is malformed or others may read it.
    """
    if not path.exists():
        made = Credentials(*(secrets.token_urlsafe(32) for _ in range(5)))
        write_private(path, json.dumps(asdict(made), indent=2) + "\n")
        return made
    if path.stat().st_mode & 0o077:
        raise StackError(f"expected {path} to be readable by its owner only; run: chmod 600 {path}")
    try:
        return Credentials(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise StackError(
            f"{path} does not hold the credentials of a stack ({error}); "
            "delete the stack's folder to start over"
        ) from error


def named_token(sender: str) -> str:
    """A new token that names its sender; the collector stamps the name on every record that comes with it.

    Raises:
        StackError: the name has characters that a token cannot have.
    """
    if not _SENDER.fullmatch(sender):
        raise StackError(
            f"expected a sender's name of at most 200 letters, digits and any of . _ ~ + -, found {sender!r}; "
            "rename the service"
        )
    return f"mlaudit.{sender}.{secrets.token_hex(32)}"


def password_hash(password: str) -> str:
    """``password`` as Elasticsearch's file realm stores it (PBKDF2 with HMAC-SHA-512)."""
    salt = secrets.token_bytes(32)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS, 32)
    return f"{{PBKDF2}}{_ITERATIONS}${_text(salt)}${_text(digest)}"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
