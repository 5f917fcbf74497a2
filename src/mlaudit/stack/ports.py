"""Ports on the loopback interface."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from mlaudit.safety.file_lock import locked
from mlaudit.stack.cache import cache_dir

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@contextlib.contextmanager
def claimed_ports(usual: Sequence[int]) -> Iterator[list[int]]:
    """One free port for each usual one: the usual port itself, or a random one where it is in use.

    Elasticsearch takes seconds before it listens, and a killed one comes back. Until the end of the ``with`` block no
    other stack of this machine is given the same ports.
    """
    with contextlib.ExitStack() as claims:
        yield [_claim(port, claims) for port in usual]


def random_port() -> int:
    """A port that the operating system says is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _claim(usual: int, claims: contextlib.ExitStack) -> int:
    port = usual
    while not (_free(port) and _locked(port, claims)):
        port = random_port()
    return port


def _locked(port: int, claims: contextlib.ExitStack) -> bool:
    folder = cache_dir() / "ports"
    folder.mkdir(exist_ok=True)
    try:
        claims.enter_context(locked(folder / str(port), 0))
    except TimeoutError:
        return False
    return True


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT after a restart counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
