"""The four methods of redaction as functions of one value: drop, mask, hmac, truncate."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final

DEFAULT_TRUNCATE: Final = 32
LONGEST_REMEMBERED: Final = 512
_LONGEST_ADDRESS: Final = 128
_MAX_DEPTH: Final = 8
_CONTAINERS: Final = frozenset({list, tuple, set, frozenset})


class _Dropped:
    """The type of the marker of a dropped value."""


DROPPED: Final = _Dropped()
Redactor = Callable[[Any], Any]
"""Takes a value and returns its replacement, or ``DROPPED``."""


class Pseudonyms:
    """Keyed, stable pseudonyms: ``hmac:<first 8 hex of SHA-256(key)>:<32 hex>`` (HMAC-SHA256, RFC 2104).

    The same value under the same key always gives the same text, in every field, so records can be joined;
    without the key a guess cannot be tested. Caches at most 4096 values.

    A value that already looks like a pseudonym is hashed like any other: otherwise an actor could choose such a name
    and pass as another actor.
    """

    __slots__ = ("_keyed", "_prefix", "_remembered")

    def __init__(self, key: bytes) -> None:
        """Take the pseudonym key; raises ValueError when it is empty."""
        if not key:
            raise ValueError("expected a pseudonym key, found an empty one")
        self._prefix = f"hmac:{hashlib.sha256(key).hexdigest()[:8]}:"
        self._keyed = hmac.new(key, digestmod=hashlib.sha256)
        self._remembered = lru_cache(maxsize=4096)(self._hash)

    def of(self, text: str) -> str:
        """The pseudonym of a text."""
        # A long text is not cached: clients can choose it.
        return self._remembered(text) if len(text) <= LONGEST_REMEMBERED else self._hash(text)

    def _hash(self, text: str) -> str:
        keyed = self._keyed.copy()
        keyed.update(text.encode("utf-8", "surrogatepass"))
        return self._prefix + keyed.hexdigest()[:32]


def mask(text: str, keep: int) -> str:
    """``***`` and the last ``keep`` characters, but always less than half of the text."""
    return f"***{text[-keep:]}" if keep and len(text) > 2 * keep else "***"


def truncate(text: str, keep: int) -> str:
    """An IP address as the address of its /24 or /48 network; any other text cut to ``keep`` characters and marked."""
    address = truncate_ip(text) if len(text) <= _LONGEST_ADDRESS else None
    return address or (text if len(text) <= keep else f"{text[:keep]}…")


@lru_cache(maxsize=4096)  # parsing dominates the cost, and clients return
def truncate_ip(text: str) -> str | None:
    """The network address of an IP address (IPv4 /24, IPv6 /48), or None when the text is not an address.

    An IPv4 address inside IPv6 (``::ffff:192.0.2.7``) is truncated as the IPv4 address that it is: its /48 would
    hide it entirely. A zone (``fe80::1%eth0``) is left out.
    """
    try:
        address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    length = 24 if address.version == 4 else 48
    return str(ip_network((address, length), strict=False).network_address)


def redactor(method: str, keep: int | None, pseudonyms: Pseudonyms, *, is_ip: bool) -> Redactor:
    """The redactor of a method; with ``is_ip`` the field must stay an address, and other values are dropped."""
    if method == "drop":
        return drop
    if method == "hmac":
        return _each(pseudonyms.of)
    if method == "mask":
        kept = keep or 0
        return _each(lambda text: mask(text, kept))
    if method == "truncate":
        length = DEFAULT_TRUNCATE if keep is None else keep
        return _each(_ip_or_dropped if is_ip else lambda text: truncate(text, length))
    raise ValueError(f"expected drop, mask, hmac or truncate, found {method!r}")


def drop(_: Any) -> Any:
    """Drop every value."""
    return DROPPED


def chain(steps: Sequence[Redactor]) -> Redactor:
    """One redactor that applies several in order, each to the result of the previous one."""
    if len(steps) == 1:
        return steps[0]

    def of(value: Any) -> Any:
        for step in steps:
            value = step(value)
            if value is DROPPED:
                break
        return value

    return of


def _ip_or_dropped(text: str) -> Any:
    return truncate_ip(text) or DROPPED


class _Each:
    """A redactor that exposes its inner function for texts: most values are texts, and this saves a call."""

    __slots__ = ("_of", "on_text")

    def __init__(self, of: Redactor, on_text: Callable[[str], Any]) -> None:
        self._of = of
        self.on_text = on_text

    def __call__(self, value: Any) -> Any:
        return self._of(value)


def _each(redact: Callable[[str], Any]) -> Redactor:
    """A redactor of texts for any value: numbers by their text, lists and mappings element by element.

    The keys of a mapping stay: they are names of fields. Values that are nested too deeply are dropped.
    """

    def of(value: Any, depth: int = 0) -> Any:
        kind = value.__class__
        if kind is str:
            return redact(value)
        if value is None:
            return None
        if depth > _MAX_DEPTH:
            return DROPPED
        if kind is dict:
            pairs = ((key, of(item, depth + 1)) for key, item in value.items())
            return {key: item for key, item in pairs if item is not DROPPED}
        if kind in _CONTAINERS:
            items = [of(item, depth + 1) for item in value]
            return [item for item in items if item is not DROPPED] if DROPPED in items else items
        return redact(str(value))

    return _Each(of, redact)
