"""Listeners at work: drain, reload, PROXY protocol."""

import asyncio
import dataclasses
import ipaddress
import struct

import pytest
from aiosmtpd.proxy_protocol import get_proxy

from relay.model.peer import client_of
from relay.smtp.reply import Reply
from relay.smtp.server.connections import Connections
from relay.smtp.server.context import ServerContext
from relay.smtp.server.listen import drain
from relay.smtp.server.protocol import RelaySMTP
from relay.smtp.server.proxy import claims_loopback, client_address
from relay_config.schema import Limits, Listener
from tests.support.certificates import client_context, server_context
from tests.support.raw_smtp import RawClient, listening
from tests.support.remembering_handler import RememberingHandler

MAPPED = ipaddress.ip_address("::ffff:127.0.0.1")
V2 = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command: int = 1, source: str = "203.0.113.7") -> bytes:
    octets = bytes(int(part) for part in source.split("."))
    address = octets + bytes([10, 0, 0, 1]) + struct.pack("!HH", 4711, 25)
    return V2 + bytes([0x20 | command, 0x11]) + struct.pack("!H", len(address)) + address


async def test_draining_tells_idle_sessions_and_lets_transactions_end():
    async with listening() as server:
        idle = await server.connect()
        await idle.code("EHLO c.test")
        running = await server.connect()
        await running.envelope()
        server.server.stop()
        draining = asyncio.create_task(drain(server.server.context.connections, 10))
        assert (await idle.rest()).startswith("421 4.3.2 ")
        assert await running.code(b"A: b\r\n\r\nx\r\n.\r\n") == 250
        assert (await running.rest()).startswith("421 4.3.2 ")
        await running.close()
        assert await draining == 0
        assert len(server.handler.messages) == 1
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await server.connect()


async def test_draining_waits_for_a_verdict():
    async with listening(RememberingHandler(manual=True)) as server:
        client = await server.connect()
        await client.envelope()
        client.send(b"A: b\r\n\r\nx\r\n.\r\n")
        while not server.handler.pending:
            await asyncio.sleep(0.01)
        server.server.stop()
        draining = asyncio.create_task(drain(server.server.context.connections, 10))
        await asyncio.sleep(0.01)
        server.handler.pending[0].set_result(Reply(250, "2.0.0", "Queued"))
        assert (await client.rest()).startswith("250 2.0.0 Queued\r\n421 4.3.2 ")
        await client.close()
        assert await draining == 0


async def test_what_does_not_end_is_ended():
    async with listening() as server:
        client = await server.connect()
        await client.envelope()
        server.server.stop()
        assert await drain(server.server.context.connections, 0.05) == 1
        assert await client.rest() == ""
        assert not server.handler.messages


async def test_a_new_context_is_for_new_sessions():
    async with listening() as server:
        old = await server.connect()
        server.server.context = dataclasses.replace(server.server.context, max_message_size=1234, _extensions={})
        new = await server.connect()
        assert "SIZE 52428800" in await old.say("EHLO c.test")
        assert "SIZE 1234" in await new.say("EHLO c.test")


async def test_the_handler_may_turn_a_client_away():
    async with listening(RememberingHandler(greeting=Reply(554, "5.7.1", "Not you"))) as server:
        client = await server.connect(greeting=False)
        assert await client.rest() == "554 5.7.1 Not you\r\n"


@pytest.mark.parametrize("header", [b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 25\r\n", v2()], ids=["v1", "v2"])
@pytest.mark.parametrize("pieces", [1, 1000])
async def test_proxy_header(header, pieces):
    async with listening(proxy_protocol=True) as server:
        client = await server.connect(greeting=False)
        size = -(-len(header) // pieces)
        for at in range(0, len(header), size):
            client.send(header[at : at + size])
            await client.writer.drain()
        assert (await client.reply()).startswith("220 ")
        await client.envelope()
        assert await client.code(b"A: b\r\n\r\nx\r\n.\r\n") == 250
        peer = server.handler.messages[0].peer
        assert (peer.address, peer.port) == ("203.0.113.7", 4711)


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", v2(command=0)], ids=["v1-unknown", "v2-local"])
async def test_proxy_header_without_address(header):
    async with listening(proxy_protocol=True) as server:
        client = await server.connect(greeting=False)
        client.send(header)
        assert (await client.reply()).startswith("220 ")
        assert server.handler.opened[0].address == "127.0.0.1"


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO c.test\r\n",
        b"PROXY TCP4 999.0.0.1 10.0.0.1 1 2\r\n",
        b"PROXY " + b"x" * 200,
        V2 + b"\x31\x11\0\0",
        b"\r\n\r\n\0\r\nQUIX\n1234",
        b"PROX",
    ],
)
async def test_without_a_proxy_header_there_is_no_session(octets):
    async with listening(proxy_protocol=True, handshake_timeout=0.2) as server:
        client = await server.connect(greeting=False)
        client.send(octets)
        assert await client.rest() == ""
        assert not server.handler.opened
        for _ in range(50):
            if not len(server.server.context.connections):
                break
            await asyncio.sleep(0.01)
        assert not len(server.server.context.connections)


async def test_plaintext_auth_is_not_for_clients_behind_a_proxy():
    async with listening(proxy_protocol=True, auth="optional", plaintext_auth=True) as server:
        client = await server.connect(greeting=False)
        client.send(v2())
        await client.reply()
        assert "AUTH" not in await client.say("EHLO c.test")


@pytest.mark.parametrize(
    ("peer", "header", "address", "local"),
    [
        ("127.0.0.1", None, "127.0.0.1", True),
        ("::1", None, "::1", True),
        ("203.0.113.9", None, "203.0.113.9", False),
        ("127.0.0.1", b"PROXY TCP4 127.0.0.1 10.0.0.1 4711 25\r\n", "127.0.0.1", True),
        ("127.0.0.1", b"PROXY TCP6 ::1 2001:db8::1 4711 25\r\n", "::1", True),
        ("127.0.0.1", b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 25\r\n", "203.0.113.7", False),
        ("127.0.0.1", b"PROXY UNKNOWN\r\n", "127.0.0.1", True),
        ("203.0.113.9", b"PROXY TCP4 127.0.0.1 10.0.0.1 4711 25\r\n", "127.0.0.1", False),
        ("203.0.113.9", b"PROXY TCP6 ::1 2001:db8::1 4711 25\r\n", "::1", False),
        ("203.0.113.9", b"PROXY TCP6 ::ffff:127.0.0.1 2001:db8::1 4711 25\r\n", str(MAPPED), False),
        ("203.0.113.9", v2(source="127.0.0.1"), "127.0.0.1", False),
        ("203.0.113.9", v2(command=0, source="127.0.0.1"), "203.0.113.9", False),
        ("203.0.113.9", b"PROXY UNKNOWN\r\n", "203.0.113.9", False),
    ],
)
async def test_a_proxy_elsewhere_cannot_make_its_clients_local(peer, header, address, local):
    """Being on this machine unlocks AUTH in plaintext: the connection must come from here, whatever is claimed."""
    proxy = None
    if header is not None:
        reader = asyncio.StreamReader()
        reader.feed_data(header)
        proxy = await get_proxy(reader)
        assert proxy.valid
    assert client_address((peer, 5), proxy)[::2] == (address, local)
    assert claims_loopback(address, local=local) is (address in {"127.0.0.1", "::1", str(MAPPED)} and not local)


class Wire(asyncio.Transport):
    """A connection from anywhere that takes what is written."""

    def __init__(self, peer: str) -> None:
        super().__init__({"peername": (peer, 5)})

    def write(self, data: bytes) -> None:
        pass


@pytest.mark.parametrize(
    ("peer", "claim", "trusted"),
    [
        ("203.0.113.9", "127.0.0.1", False),
        ("203.0.113.9", "10.1.2.3", True),
        ("203.0.113.9", None, True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", None, True),
    ],
)
async def test_a_proxy_elsewhere_cannot_make_its_clients_trusted_as_local_ones(peer, claim, trusted):
    """The trusted networks hold 127.0.0.0/8 by default, which is not to be had by a header."""
    handler = RememberingHandler(trusted=True)
    listener = Listener(address="192.0.2.1:25", tls="none", auth="off", proxy_protocol=claim is not None)
    protocol = RelaySMTP(ServerContext("mx.test", handler, listener))
    if claim is not None:
        reader = asyncio.StreamReader()
        reader.feed_data(f"PROXY TCP4 {claim} 192.0.2.1 4711 25\r\n".encode())
        protocol.proxy = await get_proxy(reader)
    protocol.connection_made(Wire(peer))
    assert [opened.trusted for opened in handler.opened] == [trusted]
    protocol.connection_lost(None)


@pytest.mark.parametrize(("source", "offered"), [("127.0.0.1", True), ("203.0.113.7", False)])
async def test_a_proxy_here_passes_on_who_is_local(source, offered):
    async with listening(proxy_protocol=True, auth="optional", plaintext_auth=True) as server:
        client = await server.connect(greeting=False)
        client.send(f"PROXY TCP4 {source} 10.0.0.1 4711 25\r\n".encode())
        await client.reply()
        assert ("AUTH" in await client.say("EHLO c.test")) is offered


async def test_proxy_header_and_implicit_tls_in_one_segment():
    async with listening(proxy_protocol=True, tls=server_context(), mode="implicit") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        client = RawClient(reader, writer)
        server.clients.append(client)
        client.send(v2())
        await client.starttls(client_context())
        assert (await client.reply()).startswith("220 ")
        assert "STARTTLS" not in await client.say("EHLO c.test")
        assert server.handler.opened[0].address == "203.0.113.7"
        assert server.handler.opened[0].tls


async def test_a_connection_too_many_before_its_proxy_header_is_told_so():
    async with listening(proxy_protocol=True, limits=Limits(connections=1)) as server:
        first = await server.connect(greeting=False)
        first.send(v2())
        assert (await first.reply()).startswith("220 ")
        second = await server.connect(greeting=False)
        assert (await second.rest()).startswith("421 4.3.2 ")


async def test_handshakes_count_as_connections():
    async with listening(tls=server_context(), mode="implicit", limits=Limits(connections_per_address=1)) as server:
        await server.connect(greeting=False)
        for _ in range(50):
            if len(server.server.context.connections):
                break
            await asyncio.sleep(0.01)
        second = await server.connect(greeting=False)
        assert await second.rest() == ""


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("nonsense:", "nonsense:"),
    ],
)
def test_a_client_is_an_address_or_a_subscribers_network(address, client):
    assert client_of(address) == client


def test_counts_come_back_to_nothing():
    class Connection:
        def shut_down(self): ...
        def abort(self): ...
        def hurry(self):
            hurried.append(self)

    hurried = []
    counts = Connections()
    some = [Connection() for _ in range(10)]
    for each in some:
        assert counts.add(each, "a", 10, 10)
    assert not counts.add(Connection(), "b", 10, 10)
    assert not counts.add(Connection(), "a", 11, 10)
    assert counts.stressed(10)
    counts.hurry(100.0)
    counts.hurry(104.0)
    assert len(hurried) == 10
    for each in some:
        counts.remove(each, "a")
        counts.remove(each, "a")
    assert len(counts) == 0
    assert counts._by_client == {}
