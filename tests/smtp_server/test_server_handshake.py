"""A TLS handshake that fails is reported, with its reason and what the client offered, on both event loops."""

import asyncio
import contextlib
import socket
import ssl
import warnings

import pytest

from relay.model.peer import Peer, TlsFailure
from tests.support.certificates import client_context, server_context
from tests.support.raw_smtp import HANG, Listening, listening

MODES = ["starttls", "implicit"]
HELLO = bytes.fromhex("16030100")


def old_client() -> ssl.SSLContext:
    """A device that knows nothing newer than TLS 1.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


async def raw(server: Listening, mode: str) -> socket.socket:
    """A connected socket at which the server now waits for a handshake."""
    sock = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", server.port), HANG)
    if mode == "starttls":
        await asyncio.to_thread(_ask_for_tls, sock)
    return sock


def _ask_for_tls(sock: socket.socket) -> None:
    lines = sock.makefile("rb")
    assert lines.readline().startswith(b"220 ")
    sock.sendall(b"EHLO c.test\r\n")
    while not lines.readline().startswith(b"250 "):
        pass
    sock.sendall(b"STARTTLS\r\n")
    assert lines.readline().startswith(b"220 ")


def shake(sock: socket.socket, context: ssl.SSLContext) -> None:
    """Blocking, as a real client does it: a client of OpenSSL's sends its alerts."""
    with contextlib.suppress(OSError):
        context.wrap_socket(sock, server_hostname="mx.test").close()
    sock.close()


async def failed(server: Listening) -> tuple[Peer, TlsFailure]:
    async with asyncio.timeout(HANG):
        while not server.handler.failures:
            await asyncio.sleep(0.01)
    (found,) = server.handler.failures
    return found


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_of_old_versions(mode: str):
    async with listening(tls=server_context(), mode=mode, auth="required") as server:
        await asyncio.to_thread(shake, await raw(server, mode), old_client())
        peer, failure = await failed(server)
        assert peer.address == "127.0.0.1"
        assert peer.listener == server.server.context.listener.address
        assert peer.helo == ("c.test" if mode == "starttls" else "")
        assert failure.reason == "the client offers no TLS version that is allowed here (unsupported protocol)"
        assert failure.versions == ("TLSv1.1",)
        assert "ECDHE-RSA-AES256-SHA" in failure.ciphers
        assert failure.name == "mx.test"


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_that_does_not_trust_the_certificate(mode: str):
    async with listening(tls=server_context(), mode=mode, auth="required") as server:
        await asyncio.to_thread(shake, await raw(server, mode), ssl.create_default_context())
        _, failure = await failed(server)
        assert failure.reason == "the client does not trust the certificate's issuer (tlsv1 alert unknown ca)"
        assert "TLSv1.3" in failure.versions


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_without_a_common_cipher(mode: str):
    context = old_client()
    context.maximum_version = context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")
    async with listening(tls=server_context(), mode=mode, auth="required") as server:
        await asyncio.to_thread(shake, await raw(server, mode), context)
        _, failure = await failed(server)
        assert failure.reason == "the client offers no cipher that is allowed here (no shared cipher)"
        assert (failure.versions, failure.ciphers) == (("TLSv1.2",), ("AES128-SHA",))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("octets", [b"EHLO c.test\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 40])
async def test_plaintext_in_place_of_a_handshake(mode: str, octets: bytes):
    async with listening(tls=server_context(), mode=mode, auth="required") as server:
        sock = await raw(server, mode)
        sock.sendall(octets)
        _, failure = await failed(server)
        assert failure.reason.startswith("the client did not begin with a TLS handshake")
        sock.close()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("octets", [b"", HELLO])
async def test_a_handshake_that_takes_too_long(mode: str, octets: bytes):
    async with listening(tls=server_context(), mode=mode, auth="required", handshake_timeout=0.1) as server:
        sock = await raw(server, mode)
        sock.sendall(octets)
        _, failure = await failed(server)
        said = "" if octets else "; the client sent nothing"
        assert failure.reason == f"the handshake took longer than 0.1 seconds{said}"
        sock.close()


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_that_goes_away(mode: str):
    async with listening(tls=server_context(), mode=mode, auth="required") as server:
        sock = await raw(server, mode)
        sock.sendall(HELLO)
        await asyncio.sleep(0.05)
        sock.close()
        _, failure = await failed(server)
        assert failure.reason == "the client closed the connection during the handshake"


async def test_a_look_at_whether_the_port_is_open_is_no_handshake():
    """As load balancers do every few seconds."""
    async with listening(tls=server_context(), mode="implicit", auth="required") as server:
        (await raw(server, "implicit")).close()
        await asyncio.to_thread(shake, await raw(server, "implicit"), old_client())
        _, failure = await failed(server)
        assert failure.versions


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_that_leaves_right_after_the_handshake(mode: str):
    """As those do that look at the certificate only then."""
    async with listening(tls=server_context(), mode=mode, auth="required") as server:
        await asyncio.to_thread(shake, await raw(server, mode), client_context())
        peer, failure = await failed(server)
        assert peer.tls == f"{failure.versions[0]} {failure.ciphers[0]}"
        assert failure.versions == ("TLSv1.3",)
        assert failure.reason.startswith("the client closed the connection right after the handshake; it may not trust")


def talk(sock: socket.socket, lines: bytes) -> None:
    """Shake hands, say something and leave when it was answered."""
    with client_context().wrap_socket(sock, server_hostname="mx.test") as secured:
        secured.sendall(lines)
        secured.recv(1000)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lines", [b"QUIT\r\n", b"NOOP\r\n"])
async def test_a_handshake_that_succeeds_is_no_failure(mode: str, lines: bytes):
    async with listening(tls=server_context(), mode=mode, auth="required") as server:
        sock = await raw(server, mode)
        if mode == "implicit":
            lines = b"EHLO c.test\r\n" + lines
        await asyncio.to_thread(talk, sock, lines)
        async with asyncio.timeout(HANG):
            while len(server.handler.closed) < 1:
                await asyncio.sleep(0.01)
        assert not server.handler.failures


async def test_the_client_is_the_one_that_the_proxy_names():
    async with listening(tls=server_context(), mode="implicit", auth="required", proxy_protocol=True) as server:
        sock = await raw(server, "implicit")
        sock.sendall(b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 25\r\nEHLO c.test\r\n")
        peer, _ = await failed(server)
        assert (peer.address, peer.port) == ("203.0.113.7", 4711)
        sock.close()


async def test_our_own_end_is_not_the_clients_failure():
    async with listening(tls=server_context()) as server:
        sock = await raw(server, "starttls")
        (connection,) = server.server.context.connections.open
        connection.shut_down()
        connection.abort()
        await asyncio.sleep(0.05)
        assert not server.handler.failures
        sock.close()
