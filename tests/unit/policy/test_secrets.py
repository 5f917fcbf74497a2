"""What is taken for a secret, and what is not."""

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
    """E-mail addresses are masked only where the policy asks."""
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
    """64 KiB of the worst that a pattern could meet take less than two seconds."""
    text = unit * (65536 // len(unit))
    start = time.perf_counter()
    scrub_text(text, emails=True)
    assert time.perf_counter() - start < 2
