"""Tests run beside each other: a port given to one of them must not be taken before its server starts."""

import errno
import socket
import subprocess
import sys

import pytest

from tests.support.ports import free_port
from tests.support.source_tree import ROOT

MANY = "from tests.support.ports import free_port; print(*[free_port() for _ in range(200)]); input()"


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_nobody_else_gets_a_port_that_was_given_out(address):
    port = free_port()
    with socket.socket() as other, pytest.raises(OSError, match="in use") as raised:
        other.bind((address, port))
    assert raised.value.errno == errno.EADDRINUSE


def test_an_outgoing_connection_does_not_get_it():
    ports = [free_port() for _ in range(100)]
    with socket.create_server(("127.0.0.1", free_port())) as server:
        for port in ports:
            with socket.socket() as client, pytest.raises(OSError, match="in use"):
                client.bind(("127.0.0.1", port))
        connections = [socket.create_connection(server.getsockname()) for _ in range(100)]
        taken = {connection.getsockname()[1] for connection in connections}
        for connection in connections:
            connection.close()
    assert not taken & set(ports)


@pytest.mark.parametrize("options", [(socket.SO_REUSEADDR,), (socket.SO_REUSEADDR, socket.SO_REUSEPORT)])
def test_the_server_it_is_meant_for_gets_it_as_often_as_it_starts(options):
    port = free_port()
    for _ in range(3):
        with socket.socket() as server:
            for option in options:
                server.setsockopt(socket.SOL_SOCKET, option, 1)
            server.bind(("127.0.0.1", port))
            server.listen()
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                server.accept()[0].close()
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED, "the keeper does not listen"


def test_processes_beside_each_other_get_different_ports():
    processes = [
        subprocess.Popen([sys.executable, "-c", MANY], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    given: list[int] = []
    for process in processes:
        assert process.stdout is not None
        given += map(int, process.stdout.readline().split())
    for process in processes:
        process.communicate(b"\n")
        assert process.returncode == 0
    assert len(given) == len(set(given)) == 600
