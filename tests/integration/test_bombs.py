"""Compressed bombs against the collector's receiver."""

from __future__ import annotations

import zlib

import pytest
import urllib3
from tests.conftest import Sender


def bomb(size: int, window: int) -> bytes:
    """A body of zeros, compressed a thousandfold."""
    packer = zlib.compressobj(9, zlib.DEFLATED, window)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()


@pytest.mark.parametrize(("encoding", "window"), [("gzip", 31), ("deflate", 15)])
@pytest.mark.parametrize("content_type", ["application/x-protobuf", "application/json"])
def test_a_bomb_is_refused_and_the_collector_goes_on(
    sender: Sender, encoding: str, window: int, content_type: str
) -> None:
    """256 MB in 256 KB get a 4xx, and the next records are accepted and stored."""
    headers = {
        "content-type": content_type,
        "content-encoding": encoding,
        "authorization": f"Bearer {sender.stack.token}",
    }
    ca_file = str(sender.stack.ca_file) if sender.stack.ca_file else None
    with urllib3.PoolManager(retries=False, timeout=60, ca_certs=ca_file) as pool:
        answer = pool.request(
            "POST", f"{sender.stack.otlp_endpoint}/v1/logs", body=bomb(256 << 20, window), headers=headers
        )
    assert 400 <= answer.status < 500
    original = sender.original()
    assert sender.send(sender.record(original)) == 200
    assert sender.find_original(original)
