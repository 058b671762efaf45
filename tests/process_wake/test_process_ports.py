"""Ports: bound exclusively, and refused with the name of whoever has them."""

import os
import socket
import sys
from contextlib import closing

import pytest

from relay.process.ports import _host, _meet, listening, users
from relay.process.sockets import BindError, bind, bind_one, probe
from relay_config.endpoints import Endpoint, parse_endpoint
from relay_config.schema import Listener, Settings

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks in /proc")


def taken(host: str = "127.0.0.1", *options: int) -> tuple[socket.socket, str]:
    """A socket that listens, and its address."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    for option in options:
        sock.setsockopt(socket.SOL_SOCKET, option, 1)
    sock.bind((host, 0))
    sock.listen()
    return sock, str(Endpoint(host, sock.getsockname()[1]))


@linux
def test_a_port_in_use_names_its_program():
    sock, address = taken()
    with closing(sock), pytest.raises(BindError) as caught:
        probe(address)
    assert caught.value.address == address
    assert f"(process {os.getpid()})" in caught.value.why
    assert "another port" in caught.value.remedy
    probe(address)


def test_a_port_is_not_shared_with_another_relay_of_the_same_user():
    """Its sockets have SO_REUSEPORT, as ours do: the kernel would give each a part of the connections."""
    sock, address = taken("127.0.0.1", socket.SO_REUSEADDR, socket.SO_REUSEPORT)
    settings = Settings(hostname="a.test", data_dir="/d", listener=[Listener(address=address)])
    with closing(sock), pytest.raises(BindError, match="in use"):
        bind(settings, 2)


def test_each_worker_has_a_socket_of_its_own():
    sock, address = taken()
    sock.close()
    settings = Settings(hostname="a.test", data_dir="/d", listener=[Listener(address=address)])
    sockets = [mine for worker in bind(settings, 2) for _, mine in worker]
    try:
        assert {mine.getsockname()[1] for mine in sockets} == {parse_endpoint(address).port}
        assert len({mine.fileno() for mine in sockets}) == 2
    finally:
        for mine in sockets:
            mine.close()


@pytest.mark.parametrize(
    ("address", "why"), [("192.0.2.1:2525", "does not have the address"), ("[2001:db8::1]:2525", "")]
)
def test_an_address_of_another_machine_is_refused(address, why):
    for attempt in (probe, bind_one):
        with pytest.raises(BindError) as caught:
            attempt(address)
        assert why in caught.value.why
        assert caught.value.remedy


@linux
def test_who_listens():
    sock, address = taken()
    with closing(sock):
        endpoint = parse_endpoint(address)
        sockets = listening(endpoint)
        assert len(sockets) == 1
        assert os.getpid() in {user.pid for user in users(sockets)}
        assert listening(Endpoint("127.0.0.2", endpoint.port)) == frozenset()
        assert listening(Endpoint("0.0.0.0", endpoint.port)) == sockets
    assert listening(endpoint) == frozenset()


def test_addresses_as_the_kernel_writes_them():
    assert _host("0100007F", socket.AF_INET) == "127.0.0.1"
    assert _host("00000000000000000000000001000000", socket.AF_INET6) == "::1"
    assert _host("B80D0120000000000000000001000000", socket.AF_INET6) == "2001:db8::1"


@pytest.mark.parametrize(
    ("one", "other", "meets"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("::", "127.0.0.1", True),
        ("::1", "127.0.0.1", False),
        ("0.0.0.0", "::1", False),
        ("::", "::1", True),
    ],
)
def test_which_listeners_meet(one, other, meets):
    assert _meet(one, other) is meets
