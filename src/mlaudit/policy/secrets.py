"""Patterns of secrets: names of keys that hold one, and formats of values that are one.

The search is bounded: every repetition has a limit, and every pattern runs only on texts that contain one of its
hints, so that no crafted text makes it slow.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

REMOVED: Final = "[removed]"

_STEMS: Final = (
    "password", "passwd", "passphrase", "passcode", "secret", "credential", "apikey", "privatekey", "accesskey",
    "authtoken", "accesstoken", "refreshtoken", "idtoken", "bearertoken", "sessiontoken", "connectionstring",
)  # fmt: skip
_WORDS: Final = frozenset({
    "pwd", "pass", "pw", "token", "tokens", "authorization", "authorisation", "cookie", "cookies", "jwt", "bearer",
    "otp", "totp", "pin", "cvv", "cvc", "dsn", "sas", "csrf", "xsrf", "signature",
})  # fmt: skip
_KEY_WORDS: Final = frozenset({
    "api", "private", "access", "signing", "encryption", "master", "auth", "shared", "account", "service", "ssh",
    "client", "session", "hmac", "aes", "rsa", "subscription", "license", "pseudonym",
})  # fmt: skip
_TOKEN_IS_TEXT_UNIT: Final = frozenset({
    "n", "pattern", "count", "counts", "limit", "type", "budget", "max", "min", "num", "length", "size", "usage", "eos",
    "bos", "pad", "unk", "sep", "cls", "mask", "input", "output", "total", "prompt", "completion", "cached",
    "reasoning", "per", "special", "stop",
})  # fmt: skip
"""With one of these beside it, "token" is a piece of text (``token_pattern``, ``max_tokens``), not a credential."""

_SPLIT: Final = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_LAST_WORDS: Final = frozenset({"pin", "pass", "pw", "otp", "sas"})
"""Secret only at the end of a key: ``user_pin``, but not ``pin_memory``."""
_KEY_ASPECTS: Final = frozenset({"id", "name", "type", "size", "length", "alias"})


def is_secret_key(key: str) -> bool:
    """Whether a key of a mapping, a header, a parameter or an option names a secret."""
    return _is_secret(key if len(key) <= 256 else f"{key[:128]}.{key[-128:]}")


@lru_cache(maxsize=4096)  # clients can choose keys: bounded in number and length
def _is_secret(key: str) -> bool:
    flat = re.sub(r"[^a-z0-9]", "", key.lower())
    if any(stem in flat for stem in _STEMS):
        return True
    listed = [word.lower() for word in _SPLIT.split(key) if word]
    words = set(listed)
    found = words & _WORDS
    if found & _LAST_WORDS and listed[-1] not in _LAST_WORDS:
        found -= _LAST_WORDS
    if found and not (found <= {"token", "tokens", "signature"} and words & _TOKEN_IS_TEXT_UNIT):
        return True
    return (
        ("key" in words or "keys" in words)
        and bool(words & _KEY_WORDS)
        and "public" not in words
        and listed[-1] not in _KEY_ASPECTS
    )


def scrub_text(text: str, *, emails: bool, secret_key: Callable[[str], bool] = is_secret_key) -> str:
    """The text with every value that looks like a secret replaced by a mark that names its type."""
    lowered = text.lower()
    for hints, scrub in _SCRUBS:
        if any(hint in lowered for hint in hints):
            text = scrub(text, secret_key)
    # Account numbers first: a part of one may look like a card number.
    if _IBAN.search(text):
        text = _IBAN.sub(_account, text)
    if _DIGITS.search(text):
        text = _DIGITS.sub(_cards, text)
    if emails and "@" in text:
        text = _EMAIL.sub("[email]", text)
    return text


def _shape(pattern: str, mark: str, flags: int = 0) -> Callable[[str, Callable[[str], bool]], str]:
    compiled = re.compile(pattern, flags)
    return lambda text, _: compiled.sub(mark, text)


_VENDOR: Final = (
    r"\b(?:gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_\w{20,255}|glpat-[\w-]{16,255}|xox[abeprs]-[\w-]{10,255}"
    r"|AIza[\w-]{30,64}|sk-(?=[\w-]{0,255}\d)(?=[\w-]{0,255}[A-Z])[\w-]{16,255}|[rs]k_(?:live|test)_\w{10,255}|hf_[A-Za-z0-9]{20,255}"
    r"|npm_[A-Za-z0-9]{20,255}|pypi-[\w-]{16,1024})"
)
_KEY_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_LINE: Final = re.compile(r"[A-Za-z0-9+/=]{0,128}\r?\n")
_SEPARATOR: Final = re.compile(r"(?:\\{0,4}[\"'])?\s{0,3}(?:=>|:=|[:=])\s{0,3}")
_VALUE: Final = re.compile(
    r"(?P<quote>\\{0,4}[\"'])(?:(?!(?<!\\)(?P=quote))[\s\S])*(?:(?P=quote)|\Z)"
    r"|[\[({][^\])}]*[\])}]?|[^\s&\"'<>]+"
)
_KEY_CHARACTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-[]")
_LONGEST_KEY: Final = 64
_HEADER: Final = re.compile(
    r"(?i)\b(?P<key>(?:proxy-)?authorization|(?:set-)?cookie)(?P<sep>(?:\\{0,4}[\"'])?\s{0,3}[:=]\s{0,3}"
    r"(?:\\{0,4}[\"'])?)[^\r\n\"'\\]+"
)
_OPTION: Final = re.compile(r"(?<!\S)(?P<sep>--?(?P<key>[A-Za-z][\w-]{0,63})\s{1,3})(?P<value>[^\s-]\S*)")
_ELEMENT: Final = re.compile(
    r"(?P<open><(?P<key>[\w:.-]{1,64})(?:\s[^<>]{0,200})?>)[^<>]{1,8192}(?P<close></(?P=key)>|\Z|<!)"
)
_FORM: Final = re.compile(
    r"(?P<head>name=\"(?P<key>[^\"\r\n]{1,64})\"[^\r\n]{0,200}\r?\n(?:[^\r\n]{1,200}\r?\n){0,4}\r?\n)[^\r\n]+"
)
_STEM_HINTS: Final = (*_STEMS, *(_WORDS - {"pin", "pw", "sas"}), "pin", "pw", "sas", "key")


def _assigned(text: str, secret_key: Callable[[str], bool]) -> str:
    """Search for separators first, then for the key before them: a key pattern would run at every character."""
    out: list[str] = []
    end = position = 0
    while (separator := _SEPARATOR.search(text, position)) is not None:
        position = separator.end()
        stop = start = separator.start()
        while start > max(end, stop - _LONGEST_KEY) and text[start - 1] in _KEY_CHARACTERS:
            start -= 1
        if start == stop or not secret_key(text[start:stop]):
            continue  # and look inside the value too: a=b=c, "body": "{\"password\": …}"
        value = _VALUE.match(text, position)
        if value is not None:
            quote = value["quote"] or ""
            out += (text[end:position], quote, REMOVED, quote)
            end = position = value.end()
    return "".join((*out, text[end:])) if out else text


def _without_key_tails(text: str) -> str:
    """Removes a private key whose beginning was cut off: the lines of Base64 before its end."""
    out: list[str] = []
    position = 0
    for end in _KEY_END.finditer(text):
        start = end.start()
        while start > position:
            line = text.rfind("\n", position, start - 1) + 1 or position
            # All lines of a key but the last have one length, mostly 64.
            if not _KEY_LINE.fullmatch(text, line, start) or (start != end.start() and start - line < 60):
                break
            start = line
        out += (text[position:start], "[private key]")
        position = end.end()
    return "".join((*out, text[position:])) if out else text


def _keyed(
    pattern: re.Pattern[str], template: Callable[[re.Match[str]], str]
) -> Callable[[str, Callable[[str], bool]], str]:
    def scrub(text: str, secret_key: Callable[[str], bool]) -> str:
        return pattern.sub(lambda found: template(found) if secret_key(found["key"]) else found[0], text)

    return scrub


_SCRUBS: Final[tuple[tuple[tuple[str, ...], Callable[[str, Callable[[str], bool]], str]], ...]] = (
    (
        ("private key",),
        _shape(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----[\s\S]*?"
            r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
            "[private key]",
        ),
    ),
    (("private key",), lambda text, _: _without_key_tails(text)),
    (("://",), _shape(r"(?<=://)[^\s/@:\"']{0,128}:[^\s/@\"']{1,512}@", f"{REMOVED}@")),
    (("authorization", "cookie"), _keyed(_HEADER, lambda found: f"{found['key']}{found['sep']}{REMOVED}")),
    (("bearer",), _shape(r"(?i)\b(bearer\s{1,3})[A-Za-z0-9._~+/=-]{8,8192}", rf"\1{REMOVED}")),
    (
        ("basic",),
        _shape(
            r"\b((?i:basic)\s{1,3})(?=[A-Za-z+/]{0,200}[0-9A-Z=])[A-Za-z0-9+/]{6,512}={0,2}", rf"\1{REMOVED}"
        ),
    ),
    (
        ("eyj",),
        _shape(r"eyJ[A-Za-z0-9_-]{5,1024}\.[A-Za-z0-9_-]{2,16384}(?:\.[A-Za-z0-9_-]{0,8192})?", "[jwt]"),
    ),
    (
        ("akia", "asia", "aida", "aroa"),
        _shape(r"(?:AKIA|ASIA|AIDA|AROA)[A-Z0-9]{16}(?![A-Z0-9])", "[aws key]"),
    ),
    (
        ("gh", "glpat-", "xox", "aiza", "sk-", "k_live_", "k_test_", "hf_", "npm_", "pypi-"),
        _shape(_VENDOR, "[access token]"),
    ),
    (_STEM_HINTS, _assigned),
    (("</",), _keyed(_ELEMENT, lambda found: f"{found['open']}{REMOVED}{found['close']}")),
    (('name="',), _keyed(_FORM, lambda found: f"{found['head']}{REMOVED}")),
    (("-",), _keyed(_OPTION, lambda found: f"{found['sep']}{REMOVED}")),
)

_EMAIL: Final = re.compile(
    r"[^\s@\"'<>(),;:\[\]{}=&/]{1,64}@[^\s@\"'<>(),;:\[\]{}/\\&]{1,190}\.[^\W\d_]{2,24}|"
    r"[\w.+-]{1,64}%40[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}"
)
_DIGITS: Final = re.compile(r"(?<![0-9A-Za-z_])(?<!\d\.)\d(?:[ -]?\d){12,120}(?![0-9A-Za-z_])")
_CARD_LENGTHS: Final = range(19, 12, -1)


# ISO 13616: country, two check digits, 11 to 30 letters and digits, printed in groups of four.
_IBAN: Final = re.compile(
    r"(?<![0-9A-Za-z])[A-Z]{2}\d{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,4})?(?![0-9A-Za-z])"
)
_IBAN_LENGTHS: Final = range(34, 14, -1)


def _account(found: re.Match[str]) -> str:
    text = found[0]
    places = [place for place, char in enumerate(text) if char != " "]
    for length in _IBAN_LENGTHS:
        # A capitalized word after a number, as in "… 00 EUR", is not a part of it.
        if length == len(places) or (length < len(places) and text[places[length] - 1] == " "):
            number = "".join(text[place] for place in places[:length])
            if int("".join(str(int(char, 36)) for char in number[4:] + number[:4])) % 97 == 1:
                return f"[account]{text[places[length - 1] + 1 :]}"
    return text


def _cards(found: re.Match[str]) -> str:
    text = found[0]
    places = [index for index, char in enumerate(text) if char.isdigit()]
    digits = [int(text[index]) for index in places]
    out: list[str] = []
    end = start = 0
    while start <= len(digits) - 13:
        # A card number starts at a group of digits: in "order 12 4111 1111 1111 1111" it follows another number.
        size = 0
        if places[start] == 0 or not text[places[start] - 1].isdigit():
            size = next(
                (length for length in _CARD_LENGTHS if _is_card(text, places, digits, start, length)), 0
            )
        if size:
            out += (text[end : places[start]], "[card]")
            end = places[start + size - 1] + 1
        start += size or 1
    return "".join((*out, text[end:]))


def _is_card(text: str, places: list[int], digits: list[int], start: int, length: int) -> bool:
    stop = start + length
    if stop > len(digits) or not 2 <= digits[start] <= 6:
        return False
    after = places[stop - 1] + 1
    if after < len(text) and text[after].isdigit():
        return False
    total = 0
    for offset, digit in enumerate(reversed(digits[start:stop])):
        doubled = digit * 2 if offset % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0
