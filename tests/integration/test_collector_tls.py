"""TLS between service and collector, with the real collector and the sender that services use."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
import urllib3
from tests.integration.beside import Beside, collector_beside

from mlaudit.deliver.send.answer import Verdict
from mlaudit.deliver.send.transport import HttpTransport, Receiver
from mlaudit.stack.certificates import make_certificates

pytestmark = pytest.mark.stack

# An ExportLogsServiceRequest without a record.
NOTHING = b""


@pytest.fixture(scope="module")
def mutual(stack) -> Iterator[Beside]:
    """A collector with TLS that requires client certificates."""
    with collector_beside(stack, tls="mutual") as beside:
        yield beside


@pytest.fixture
def receiver(mutual: Beside, tmp_path) -> Receiver:
    """The collector's address, as a service with token and certificate has it."""
    token = tmp_path / "token"
    token.write_text(mutual.token)
    certificate, key = mutual.client_certificate
    return Receiver(
        f"{mutual.otlp_endpoint}/v1/logs",
        token_file=token,
        ca_file=mutual.ca_file,
        client_cert_file=certificate,
        client_key_file=key,
    )


def verdict(receiver: Receiver) -> Verdict:
    """The verdict of a service's sender on the response."""
    transport = HttpTransport(receiver)
    try:
        return transport.post(NOTHING).verdict
    finally:
        transport.close()


def test_certificate_and_token_are_accepted(receiver: Receiver) -> None:
    """A sender with a certificate of the client CA and a valid token is served."""
    assert verdict(receiver) is Verdict.ACKNOWLEDGED


def test_sender_without_a_certificate_is_refused(receiver: Receiver) -> None:
    """A valid token alone is rejected where a certificate is required."""
    assert verdict(replace(receiver, client_cert_file=None, client_key_file=None)) is Verdict.RETRY


def test_certificate_without_a_token_is_refused(receiver: Receiver) -> None:
    """A valid certificate alone is rejected too."""
    assert verdict(replace(receiver, token_file=None)) is Verdict.UNAUTHENTICATED


def test_record_sent_over_mutual_tls_is_stored(mutual: Beside, sender) -> None:
    """The whole path works over TLS."""
    secure = replace(sender, stack=mutual, pool=mutual.pool(certified=True))
    original = secure.original()
    assert secure.send(secure.record(original)) == 200
    assert secure.find_original(original)


def test_collector_of_another_authority_is_not_trusted(receiver: Receiver, stack) -> None:
    """The sender trusts only its configured CA, even if another CA issued a certificate for the name."""
    answer = HttpTransport(replace(receiver, ca_file=stack.ca_file)).post(NOTHING)
    assert (answer.verdict, answer.error_type) == (Verdict.RETRY, "SSLError")
    answer = HttpTransport(replace(receiver, ca_file=None)).post(NOTHING)
    assert (answer.verdict, answer.error_type) == (Verdict.RETRY, "SSLError")


def test_collector_under_a_name_that_its_certificate_lacks_is_not_trusted(receiver: Receiver) -> None:
    """Host names are verified: the certificate is for 127.0.0.1, and not for 127.0.0.2."""
    answer = HttpTransport(
        replace(receiver, endpoint=receiver.endpoint.replace("127.0.0.1", "127.0.0.2"))
    ).post(NOTHING)
    assert answer.verdict is Verdict.RETRY


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_1_is_refused_by_the_collector(mutual: Beside) -> None:
    """The receiver speaks TLS 1.2 or newer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    port = mutual.collector.otlp_port
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(connection)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_sender_does_not_fall_back_to_tls_1_1(receiver: Receiver, tmp_path) -> None:
    """A server that speaks TLS 1.1 at most gets no request from the sender."""
    made = make_certificates()
    for name, text in (("crt", made.certificate), ("key", made.key), ("ca", made.authority)):
        (tmp_path / name).write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        url = f"https://127.0.0.1:{server.getsockname()[1]}/v1/logs"

        def serve() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                context.wrap_socket(connection, server_side=True)

        thread = threading.Thread(target=serve)
        thread.start()
        answer = HttpTransport(replace(receiver, endpoint=url, ca_file=tmp_path / "ca")).post(NOTHING)
        thread.join()
    assert (answer.verdict, answer.error_type) == (Verdict.RETRY, "SSLError")


def test_plain_http_is_refused(mutual: Beside) -> None:
    """The TLS port accepts no plain HTTP."""
    url = mutual.otlp_endpoint.replace("https:", "http:") + "/v1/logs"
    with urllib3.PoolManager(retries=False, timeout=10) as pool:
        status = pool.request("POST", url, headers={"Authorization": f"Bearer {mutual.token}"}).status
    assert status == 400
