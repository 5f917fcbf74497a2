"""Which texts are recognised as secrets, and which are not."""

from __future__ import annotations

import time

import pytest

from mlaudit.policy.secrets import is_secret_key, scrub_text


@pytest.mark.parametrize(
    "key",
    [
        "password", "DB_PASSWORD", "userPasswd", "client_secret", "X-Api-Key", "apikey", "Authorization", "Set-Cookie",
        "access_token", "refreshToken", "token", "PRIVATE_KEY", "sshPrivateKey", "ssh_key", "passphrase", "user_pin",
        "credentials", "connectionString", "SENTRY_DSN", "jwt", "x.y.secret.z", "csrf_token", "aws_access_key_id",
        "a" * 300 + ".password",
    ],
)  # fmt: skip
def test_a_key_that_names_a_secret_is_known(key: str) -> None:
    """Whatever its spelling: snake, camel, kebab, dotted or shouted."""
    assert is_secret_key(key)


@pytest.mark.parametrize(
    "key",
    [
        "max_tokens", "token_pattern", "vectorizer__token_pattern", "input_tokens", "tokenizer", "pad_token", "n_jobs",
        "public_key", "primary_key", "sort_keys", "key", "monkey", "author", "passthrough", "pin_memory", "spinning",
        "compass", "random_state", "penalty", "signing_key_id", "session_id", "",
    ],
)  # fmt: skip
def test_a_parameter_of_a_model_is_not_taken_for_a_secret(key: str) -> None:
    """Names that machine learning uses every day stay."""
    assert not is_secret_key(key)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("password=hunter2 user=x", "password=[removed] user=x"),
        ('{"password": "a \\"b\\" c", "n": 1}', '{"password": "[removed]", "n": 1}'),
        ("{'secret': ['a', 'b']}", "{'secret': [removed]}"),
        ("Authorization: Basic YTpi\nHost: x", "Authorization: [removed]\nHost: x"),
        ("sent Bearer abcdefgh.12345", "sent Bearer [removed]"),
        ("basic training", "basic training"),
        ("run --api-key abc --rows 5", "run --api-key [removed] --rows 5"),
        ("<Password>x</Password>", "<Password>[removed]</Password>"),
        ('name="token"\r\n\r\nabc\r\n--x', 'name="token"\r\n\r\n[removed]\r\n--x'),
        ("https://u:p4ss@h/x", "https://[removed]@h/x"),
        ("key AKIAIOSFODNN7EXAMPLE.", "key [aws key]."),
        ("card 4111 1111 1111 1111, ok", "card [card], ok"),
        ("order 12 4111 1111 1111 1111", "order 12 [card]"),
        ("4111111111111112", "4111111111111112"),
        ("1764041400123456789", "1764041400123456789"),
        ("0.4111111111111111", "0.4111111111111111"),
        ("mail bob@example.com now", "mail [email] now"),
        ("a=b, max_tokens=5", "a=b, max_tokens=5"),
        ("-----BEGIN PRIVATE KEY-----\nabc", "[private key]"),
        ("KeyError: 'age'", "KeyError: 'age'"),
    ],
)
def test_text_loses_secrets_and_nothing_else(text: str, expected: str) -> None:
    """Known shapes and assignments are replaced by a mark; ordinary text stays as it is."""
    assert scrub_text(text, emails=True) == expected


def test_emails_stay_when_the_policy_says_so() -> None:
    """E-mail addresses are masked only if the policy says so."""
    assert scrub_text("mail bob@example.com", emails=False) == "mail bob@example.com"


@pytest.mark.parametrize(
    "unit",
    [
        "password",
        "eyJ",
        "41-",
        "4 ",
        "token_key.",
        "<a",
        "a@",
        "cookie",
        '\\\\"',
        "token='",
        'name="a"\n\n',
        "-x ",
    ],
)
def test_a_text_made_to_be_slow_is_not(unit: str) -> None:
    """64 KiB of the worst input for a pattern take less than two seconds."""
    text = unit * (65536 // len(unit))
    start = time.perf_counter()
    scrub_text(text, emails=True)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    "text",
    [
        "DE89370400440532013000",
        "DE89 3704 0044 0532 0130 00",
        "GB29 NWBK 6016 1331 9268 19",
        "NO9386011117947",
        "MT84MALT011000012345MTLCAST001S",
    ],
)
def test_account_numbers_are_removed(text: str) -> None:
    """An IBAN with valid check digits is removed, in groups or not, and the text around it stays."""
    assert scrub_text(f"pay {text} EUR 12", emails=True) == "pay [account] EUR 12"


@pytest.mark.parametrize("text", ["DE88370400440532013000", "AB12 CDEF GHIJ KLMN", "SN20251125A7B3C4D5"])
def test_what_only_looks_like_an_account_number_stays(text: str) -> None:
    """A text with wrong check digits is not an IBAN: serial numbers and codes stay readable."""
    assert scrub_text(f"part {text}!", emails=True) == f"part {text}!"


def test_private_key_without_its_beginning_is_removed() -> None:
    """The end of a key that was cut in the middle is still a key."""
    text = f"before\n{'MIIEpAIBAAKCAQEA' * 4}\nabc+/=\n-----END RSA PRIVATE KEY-----\nafter"
    assert scrub_text(text, emails=True) == "before\n[private key]\nafter"


def test_names_that_begin_like_a_key_stay() -> None:
    """Access tokens and model names begin with sk-: only mixed letters with digits are a token."""
    assert (
        scrub_text("/models/sk-learn-fraud-detector-v2.joblib", emails=True)
        == "/models/sk-learn-fraud-detector-v2.joblib"
    )
    assert scrub_text("sk-proj-aB3dE5fG7hI9jK1l", emails=True) == "[access token]"
