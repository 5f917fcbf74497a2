"""Choosing ports."""

from __future__ import annotations

import socket

from mlaudit.stack.ports import free_port, random_port


def test_usual_port_is_taken_when_it_is_free():
    """Nothing listens: the usual port it is."""
    port = random_port()
    assert free_port(port) == port


def test_another_port_is_taken_when_the_usual_one_is_in_use():
    """Somebody listens: a free port instead."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        usual = server.getsockname()[1]
        chosen = free_port(usual)
    assert chosen != usual
    assert 1024 < chosen < 65536


def test_port_that_was_given_out_already_is_not_given_twice():
    """Two programs that are not started yet do not get the same port."""
    port = random_port()
    assert free_port(port, [port]) != port
