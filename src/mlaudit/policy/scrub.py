"""Removes secrets from free text and nested values, regardless of the policy's rules.

Values are never changed in place: nested values belong to the audited application.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from datetime import date, datetime, time
from functools import lru_cache
from numbers import Number
from typing import Any, Final
from urllib.parse import unquote_plus
from uuid import UUID

from mlaudit.policy.globs import name_matcher
from mlaudit.policy.secrets import REMOVED, is_secret_key, scrub_text

MAX_DEPTH: Final = 12
MAX_NODES: Final = 20_000
MAX_TEXT: Final = 1 << 20
_CACHED_TEXT: Final = 512
# Ids and digests, which are frequent and always different: this shape alone is not a secret.
_HEXADECIMAL: Final = re.compile(r"(?=[0-9-]{0,63}[a-f])[0-9a-f-]{1,64}")
_JSON_ENDS: Final = frozenset({("{", "}"), ("[", "]"), ('"', '"')})
_SCALARS: Final = (str, Number, datetime, date, time, UUID)


class _TooManyError(Exception):
    """A value has more parts than the limit."""


class Scrubber:
    """Removes what looks like a secret; one per policy.

    Texts up to 512 characters are cached (at most 2048 of them), since messages repeat.
    """

    __slots__ = ("_cached", "_emails", "_key", "is_secret")

    def __init__(self, key: bytes, *, emails: bool = True, keys: tuple[str, ...] = ()) -> None:
        """Take the pseudonym key (for digests of cut values), and the policy's ``scrub`` section."""
        self._key = key
        self._emails = emails
        further = name_matcher(tuple(pattern.lower() for pattern in keys)) if keys else None

        def is_secret(name: str) -> bool:
            return is_secret_key(name) or (further is not None and bool(further(name.lower())))

        self.is_secret = is_secret
        self._cached = lru_cache(maxsize=2048)(self._scrub)

    def text(self, text: str) -> str:
        """A text without secrets; JSON is parsed, so that its keys are considered."""
        if _HEXADECIMAL.fullmatch(text):
            return text
        if len(text) <= _CACHED_TEXT:
            return self._cached(text)
        return self._scrub(text) if len(text) <= MAX_TEXT else self.cut("too long", text)

    def query(self, query: str) -> str:
        """A URL's query string without secrets, in any encoding."""
        return "&".join(self._parameter(part) for part in self.text(query).split("&"))

    def nested(self, value: Any) -> Any:
        """A copy of a value without secrets at any depth, or a marker where it is too deep or too large."""
        try:
            return self._walk(value, MAX_DEPTH, [MAX_NODES])
        except _TooManyError:
            return self.cut("too many parts", value)

    def cut(self, why: str, value: Any) -> str:
        """The replacement of a value that is too large: its length and a keyed digest, never a part of it.

        The digest is keyed, because a plain digest of a short value could be found by trying.
        """
        try:
            text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=_type_name)
        except (ValueError, TypeError, RecursionError):  # circular, keys of several types, too deep
            return f"[{why}: {_type_name(value)}]"
        code = hmac.new(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        return f"[{why}: {len(text)} characters, hmac {code[:32]}]"

    def _scrub(self, text: str) -> str:
        if (text[:1], text[-1:]) in _JSON_ENDS:
            try:
                parsed = json.loads(text)
            except (ValueError, RecursionError):  # not JSON, or truncated JSON: text patterns still apply
                pass
            else:
                scrubbed = self.nested(parsed)
                # Without a secret the text stays unchanged: the exact bytes are evidence.
                if scrubbed != parsed:
                    return json.dumps(scrubbed, ensure_ascii=False, separators=(",", ":"))
        return scrub_text(text, emails=self._emails, secret_key=self.is_secret)

    def _parameter(self, part: str) -> str:
        name, equals, _ = part.partition("=")
        if equals and self.is_secret(unquote_plus(name)):
            return f"{name}={REMOVED}"
        plain = unquote_plus(part)
        if plain == part or self.text(plain) == plain:
            return part
        keeps_name = equals and self.text(unquote_plus(name)) == unquote_plus(name)
        return f"{name}={REMOVED}" if keeps_name else REMOVED

    def _walk(self, value: Any, depth: int, budget: list[int]) -> Any:
        budget[0] -= 1
        if budget[0] < 0:
            raise _TooManyError
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, _SCALARS):
            return value
        if depth <= 0:
            return self.cut("too deep", value)
        if isinstance(value, Mapping):
            return self._mapping(value, depth, budget)
        if isinstance(value, (list, tuple, set, frozenset)):
            return self._list(list(value), depth, budget)
        return f"[unsupported: {_type_name(value)}]"

    def _mapping(self, value: Mapping[Any, Any], depth: int, budget: list[int]) -> dict[Any, Any]:
        out: dict[Any, Any] = {}
        # {"name": "password", "value": "…"}: a common form of headers and settings
        named = next(
            (value[key] for key in ("name", "key", "field") if isinstance(value.get(key), str)), None
        )
        hides_value = named is not None and self.is_secret(named)
        for key, item in value.items():
            if isinstance(key, str):
                if self.is_secret(key):
                    continue
                name: Any = self.text(key)
                while name != key and name in out:
                    name += "'"
            else:
                name = key
            out[name] = (
                REMOVED if hides_value and key in ("value", "values") else self._walk(item, depth - 1, budget)
            )
        return out

    def _list(self, value: list[Any], depth: int, budget: list[int]) -> list[Any]:
        if len(value) > budget[0]:
            raise _TooManyError
        out: list[Any] = []
        hide_next = False
        for index, item in enumerate(value):
            out.append(REMOVED if hide_next else self._walk(item, depth - 1, budget))
            # ["--password", "x"], ("authorization", "x"): a pair, or a command line in parts
            hide_next = (
                not hide_next
                and isinstance(item, str)
                and ((len(value) == 2 and index == 0) or item.startswith("-"))
                and "=" not in item
                and self.is_secret(item)
            )
        return out


def _type_name(value: Any) -> str:
    return type(value).__qualname__
