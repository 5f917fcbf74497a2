"""Choosing ports."""

from __future__ import annotations

import socket

import pytest

from mlaudit.stack.ports import claimed_ports, random_port


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MLAUDIT_CACHE", str(tmp_path))


def test_usual_port_is_taken_when_it_is_free():
    """The usual port is used when nothing listens on it."""
    port = random_port()
    with claimed_ports([port]) as ports:
        assert ports == [port]


def test_another_port_is_taken_when_the_usual_one_is_in_use():
    """A free port is used when another program listens on the usual one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        usual = server.getsockname()[1]
        with claimed_ports([usual]) as (chosen,):
            assert chosen != usual
            assert 1024 < chosen < 65536


def test_port_that_was_given_out_is_not_given_twice():
    """Neither to the same stack nor to another one that starts meanwhile, before anything listens there."""
    port = random_port()
    with claimed_ports([port, port]) as first, claimed_ports([port]) as second:
        assert first[0] == port
        assert len({*first, *second}) == 3


def test_port_is_free_again_after_the_start():
    """A claim lasts as long as a start, not longer."""
    port = random_port()
    with claimed_ports([port]):
        pass
    with claimed_ports([port]) as ports:
        assert ports == [port]
