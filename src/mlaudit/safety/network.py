"""Rules for network connections: encrypted and authenticated, except within this machine."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Accepts an unprotected connection beyond loopback, for a test network. Said aloud at every start.
INSECURE: Final = "MLAUDIT_INSECURE"
_CREDENTIAL_HEADER: Final = re.compile(r"authorization|(.*[-_])?(key|token)|apikey")
YES: Final = frozenset({"1", "true", "yes", "on"})


def is_loopback(host: str) -> bool:
    """Whether ``host`` can only be this machine: ``localhost`` or a loopback address. Nothing is resolved."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def in_the_clear(url: str) -> bool:
    """Whether data sent to ``url`` can be read in transit: http, and not to this machine."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def insecure(environment: Mapping[str, str] | None = None) -> bool:
    """Whether ``MLAUDIT_INSECURE`` allows unprotected connections."""
    environment = os.environ if environment is None else environment
    return environment.get(INSECURE, "").strip().lower() in YES


def names_credential(header: str) -> bool:
    """Whether a request header of this name carries credentials."""
    return _CREDENTIAL_HEADER.fullmatch(header.lower()) is not None


def exposure(endpoint: str, *, authenticated: bool) -> str:
    """Why records sent to ``endpoint`` could be read in transit, or the sender is not authenticated; "" for neither."""
    parts = urlsplit(endpoint)
    if is_loopback(parts.hostname or ""):
        return ""
    where = f"{parts.scheme}://{parts.hostname}"
    if in_the_clear(endpoint):
        return (
            f"MLAUDIT_ENDPOINT: expected https:// beyond this machine, found {where}; give the collector a "
            f"certificate, or accept with {INSECURE}=true that records and token can be read in transit"
        )
    if authenticated:
        return ""
    return (
        f"MLAUDIT_ENDPOINT: expected credentials for {where}, found none; set MLAUDIT_TOKEN_FILE, or "
        "MLAUDIT_CLIENT_CERT_FILE and MLAUDIT_CLIENT_KEY_FILE, or an authorization header in MLAUDIT_HEADERS, or "
        f"accept with {INSECURE}=true a collector without authentication"
    )
