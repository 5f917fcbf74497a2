"""RFC 3161 time-stamps over exported checkpoints: an independent authority attests when they existed.

Needs the extra ``timestamp`` (rfc3161-client).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import urllib3

from mlaudit.errors import SourceError, TimestampError
from mlaudit.rfc3339 import shortest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography.x509 import Certificate

QUERY: Final = "application/timestamp-query"
REPLY: Final = "application/timestamp-reply"
_SECONDS: Final = 10.0
_ANSWER_BYTES: Final = 1 << 20


def load_authorities(path: Path) -> list[Certificate]:
    """The certificates (PEM) of the authorities that are trusted for time-stamps.

    Raises:
        SourceError: the file cannot be read or holds none.
    """
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{path}: expected certificates of time-stamping authorities (PEM), found {error}"
        ) from None


def fetch_timestamp(url: str, message: bytes, authorities: Sequence[Certificate] = ()) -> bytes:
    """A time-stamp over the SHA-256 of ``message``, as the authority at ``url`` gave it (DER, TimeStampResp).

    It is checked before it is returned; with ``authorities``, one of them must have signed it.

    Raises:
        TimestampError: the authority is unreachable, refuses, or sends an invalid answer.
    """
    client = _client()
    request = client.TimestampRequestBuilder(
        data=message, hash_algorithm=client.HashAlgorithm.SHA256, nonce=True, cert_req=True
    ).build()
    try:
        with urllib3.PoolManager(retries=False, timeout=_SECONDS) as pool:
            answer = pool.request(
                "POST",
                url,
                body=request.as_bytes(),
                headers={"content-type": QUERY, "accept": REPLY, "user-agent": "mlaudit"},
                redirect=False,
                preload_content=False,
            )
            body = answer.read(_ANSWER_BYTES)
            answer.release_conn()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise TimestampError(
            f"{url}: expected a time-stamping authority, found {type(error).__name__}"
        ) from None
    media = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if answer.status != 200 or media != REPLY:
        raise TimestampError(
            f"{url}: expected HTTP 200 with {REPLY}, found {answer.status} with {media[:60]!r}"
        )
    response = _decode(body)
    _check_imprint(response, message)
    if response.tst_info.nonce != request.nonce:
        raise TimestampError(f"{url}: expected the answer to this request, found one to another (nonce)")
    if authorities:
        check_timestamp(body, message, authorities)
    return bytes(body)


def check_timestamp(stamp: bytes, message: bytes, authorities: Sequence[Certificate]) -> str:
    """The time (RFC 3339, UTC) at which ``message`` existed, as one of ``authorities`` signed it.

    Certificates need to have been valid at that time, not now.

    Raises:
        TimestampError: the time-stamp covers something else, is damaged, or no trusted authority signed it.
    """
    client = _client()
    response = _decode(stamp)
    _check_imprint(response, message)
    roots = [certificate for certificate in authorities if certificate.issuer == certificate.subject]
    others = [certificate for certificate in authorities if certificate not in roots]
    verifier = client.VerifierBuilder(roots=roots or others, intermediates=others if roots else []).build()
    try:
        verifier.verify_message(response, message)
    except (client.VerificationError, ValueError) as error:
        raise TimestampError(f"expected a time-stamp by a trusted authority, found: {error}") from None
    return shortest(response.tst_info.gen_time)


def _check_imprint(response: Any, message: bytes) -> None:
    from hashlib import sha256

    imprint = response.tst_info.message_imprint
    if imprint.message != sha256(message).digest():
        raise TimestampError(
            f"expected a time-stamp over SHA-256 {sha256(message).hexdigest()}, found one over {imprint.message.hex()}"
        )


def _decode(stamp: bytes) -> Any:
    client = _client()
    try:
        response = client.decode_timestamp_response(stamp)
        status = client.PKIStatus(response.status)
        if status is not client.PKIStatus.GRANTED:
            raise TimestampError(f"expected a time-stamp, found that the authority refused: {status.name}")
        response.tst_info  # noqa: B018 - raises when there is no token
    except ValueError as error:
        raise TimestampError(f"expected a time-stamp (RFC 3161, DER), found {error}") from None
    return response


def _client() -> Any:
    try:
        import rfc3161_client
    except ImportError:
        raise SourceError(
            "time-stamps need the package rfc3161-client; install 'mlaudit-otel[timestamp]'"
        ) from None
    return rfc3161_client
