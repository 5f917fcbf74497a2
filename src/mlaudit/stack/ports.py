"""Ports on the loopback interface."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


def free_port(usual: int, taken: Collection[int] = ()) -> int:
    """``usual`` if nothing listens there, else a random free one that is not in ``taken``."""
    if usual not in taken and _free(usual):
        return usual
    while (port := random_port()) in taken:
        pass
    return port


def random_port() -> int:
    """A port that the operating system says is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT after a restart counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
