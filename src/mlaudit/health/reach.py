"""Connects to a server one layer at a time, to name the layer that fails: name, port or certificate."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from mlaudit.health.checks import BrokenLinkError, Outcome

if TYPE_CHECKING:
    from pathlib import Path

_CONNECT_SECONDS: Final = 5.0
_EXPIRY_DAYS: Final = 14
# OpenSSL's X509_V_ERR_*.
_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21})
_WRONG_NAME: Final = frozenset({62, 63, 64})


@dataclass(frozen=True, slots=True)
class Server:
    """A server to reach.

    Attributes:
        what: its name in the report.
        host, port, tls: its address.
        variable: the setting that names it, and that of its CA.
    """

    what: str
    host: str
    port: int
    tls: bool
    variable: str
    ca_variable: str
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None


def server(what: str, url: str, variable: str, ca_variable: str, ca_file: Path | None = None) -> Server:
    """The server that an address names.

    Raises:
        BrokenLinkError: it is no address.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = urlsplit("")
    if not host or parts.scheme not in ("http", "https"):
        raise BrokenLinkError(
            f"an http:// or https:// address of {what}", "another text", f"correct {variable}"
        )
    tls = parts.scheme == "https"
    return Server(what, host, port or (443 if tls else 80), tls, variable, ca_variable, ca_file)


def resolve(at: Server) -> Outcome:
    """The host's addresses.

    Raises:
        BrokenLinkError: the name is unknown.
    """
    try:
        found = socket.getaddrinfo(at.host, at.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BrokenLinkError(
            f"an address for {at.what} {at.host}",
            reason,
            f"correct the name in {at.variable}, or the name service",
        ) from None
    return Outcome(f"{at.host} is {', '.join(sorted({str(entry[4][0]) for entry in found}))}")


def connect(at: Server) -> Outcome:
    """A TCP connection.

    Raises:
        BrokenLinkError: nothing accepts it.
    """
    try:
        _open(at).close()
    except OSError as error:
        found = (
            "no answer (a firewall?)" if isinstance(error, TimeoutError) else (error.strerror or str(error))
        )
        raise BrokenLinkError(
            f"{at.what} to listen at {at.host}:{at.port}",
            found,
            f"start it, or correct {at.variable}, or open the way to that port",
        ) from None
    return Outcome(f"{at.host}:{at.port} answers")


def secure(at: Server) -> Outcome:
    """A TLS connection to a server whose certificate is trusted, names it, and does not expire soon.

    Raises:
        BrokenLinkError: names the condition that fails.
    """
    if not at.tls:
        return Outcome("http: no TLS", skipped=True)
    context = _context(at)
    try:
        with _open(at) as plain, context.wrap_socket(plain, server_hostname=at.host) as tls:
            certificate = tls.getpeercert() or {}
            version = tls.version()
    except ssl.SSLCertVerificationError as error:
        raise _distrust(at, error) from None
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise BrokenLinkError(
            f"{at.what} to speak TLS at {at.host}:{at.port}",
            reason,
            f"is that port for plain http? Then write http:// in {at.variable}",
        ) from None
    except OSError as error:
        raise BrokenLinkError(
            f"{at.what} to speak TLS at {at.host}:{at.port}",
            f"the connection broke ({error.strerror or error})",
            "check its log",
        ) from None
    outcome = Outcome(f"{version}, certificate valid until {certificate.get('notAfter', '?')}")
    expiry = certificate.get("notAfter")
    if isinstance(expiry, str):
        days = (ssl.cert_time_to_seconds(expiry) - time.time()) / 86_400
        if days < _EXPIRY_DAYS:
            outcome.warn(f"the certificate of {at.what} expires in {days:.0f} days", "renew it")
    return outcome


def wants_certificate(at: Server) -> bool:
    """Whether a server closes the connection because it received no client certificate.

    With TLS 1.3 it does so after the handshake; a request sent in between may hide it.
    """
    try:
        with _open(at) as plain, _context(at).wrap_socket(plain, server_hostname=at.host) as tls:
            tls.recv(1)
    except ssl.SSLError as error:
        return "CERTIFICATE" in (error.reason or "").upper()
    except (OSError, BrokenLinkError):
        return False
    return False


def _open(at: Server) -> socket.socket:
    return socket.create_connection((at.host, at.port), timeout=_CONNECT_SECONDS)


def _context(at: Server) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(at.ca_file) if at.ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise BrokenLinkError(
            f"CA certificates (PEM) in {at.ca_file}",
            error.strerror or str(error),
            f"correct {at.ca_variable}",
        ) from None
    if at.client_cert is not None:
        try:
            context.load_cert_chain(at.client_cert, at.client_key)
        except (OSError, ssl.SSLError) as error:
            raise BrokenLinkError(
                f"a client certificate and its key in {at.client_cert} and {at.client_key}",
                error.strerror or str(error),
                "correct MLAUDIT_CLIENT_CERT_FILE and MLAUDIT_CLIENT_KEY_FILE",
            ) from None
    return context


def _distrust(at: Server, error: ssl.SSLCertVerificationError) -> BrokenLinkError:
    code, said = error.verify_code, error.verify_message
    if code == _EXPIRED:
        return BrokenLinkError(
            f"a valid certificate of {at.what}",
            "an expired certificate",
            "renew it; is this machine's clock right?",
        )
    if code == _NOT_YET_VALID:
        return BrokenLinkError(
            f"a valid certificate of {at.what}", "one that is not valid yet", "is this machine's clock right?"
        )
    if code in _WRONG_NAME:
        return BrokenLinkError(
            f"a certificate for {at.host}",
            f"one for other names ({said})",
            f"use a name of the certificate in {at.variable}, or issue a certificate for this one",
        )
    if code in _UNKNOWN_AUTHORITY:
        trusted = str(at.ca_file) if at.ca_file else "the system's authorities"
        return BrokenLinkError(
            f"a certificate that {trusted} signed",
            f"one of an unknown authority ({said})",
            f"name the file of the right CA in {at.ca_variable}",
        )
    return BrokenLinkError(f"a certificate of {at.what} that can be trusted", said, "renew it")
