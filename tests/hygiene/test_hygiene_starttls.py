"""STARTTLS against the whole relay: nothing said in plaintext survives the handshake."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import warnings
from pathlib import Path

import pytest
from cryptography.x509 import load_der_x509_certificate

from tests.support.bare_tls import BareTls, no_plaintext
from tests.support.certificates import client_context, write_pem
from tests.support.raw_smtp import HANG
from tests.support.running import until
from tests.support.whole import PASSWORD, USER, Whole, plain, secure, whole

LISTENERS = ["submit", "optional", "open"]


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("injected", [b"RSET\r\nNOOP\r\n", b"N", b"\r\n", b"EHLO c.test\r\n", b"\x16\x03\x01"])
async def test_injected_commands_are_not_run(relay: Whole, injected: bytes, listener: str):
    async with relay.client(listener, stranger=True) as client:
        assert await client.code("EHLO c.test") == 250
        client.send(b"STARTTLS\r\n" + injected)
        assert [line[:9] for line in (await client.rest()).splitlines()] == ["554 5.5.0"]


@pytest.mark.parametrize("listener", LISTENERS)
async def test_it_may_follow_in_the_segment_of_other_commands(relay: Whole, listener: str):
    """Last of a pipelined group, it is the handshake that comes next; what went before is forgotten."""
    async with relay.client(listener) as client:
        client.send(b"EHLO c.test\r\nMAIL FROM:<s@ext.test>\r\nSTARTTLS\r\n")
        assert [(await client.reply())[:3] for _ in range(3)] == [
            "250",
            "530" if listener == "submit" else "250",
            "220",
        ]
        await client.starttls(client_context())
        assert await client.code("MAIL FROM:<s@ext.test>") == 503


@pytest.mark.parametrize("announced", [True, False], ids=["a chunk", "between chunks"])
async def test_it_is_no_part_of_a_message_in_chunks(relay: Whole, announced: bool):
    """Within a chunk STARTTLS is text; between two it ends the message, and its rest belongs to none."""
    async with relay.client("open") as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code("MAIL FROM:<s@ext.test>") == 250
        assert await client.code("RCPT TO:<a@rcpt.test>") == 250
        if announced:
            assert await client.code(b"BDAT 17\r\nSTARTTLS\r\nRSET\r\nx") == 250
            assert await client.say("NOOP") == "250 2.0.0 OK"
            return
        assert await client.code(b"BDAT 4\r\nA: b") == 250
        assert await client.code("STARTTLS") == 220
        await client.starttls(client_context())
        assert await client.code(b"BDAT 6 LAST\r\nQUIT\r\n") == 503
        assert await client.say("NOOP") == "250 2.0.0 OK"


@pytest.mark.parametrize("listener", LISTENERS)
async def test_the_state_is_reset(relay: Whole, listener: str):
    async with relay.client(listener) as client:
        await secure(client)
        assert await client.code("MAIL FROM:<s@ext.test>") == 503
        reply = await client.say("EHLO c.test")
        assert "STARTTLS" not in reply
        assert ("AUTH" in reply) is (listener != "open")
        assert await client.code("STARTTLS") == 503


async def test_a_login_does_not_outlive_the_handshake(relay: Whole):
    """Not even a transaction opened before it."""
    async with relay.client("optional") as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code("MAIL FROM:<s@ext.test>") == 250
        assert await client.code("RCPT TO:<a@rcpt.test>") == 250
        assert await client.code("STARTTLS") == 220
        await client.starttls(client_context())
        assert await client.code("EHLO c.test") == 250
        assert await client.code("DATA") == 503


@pytest.mark.parametrize("listener", LISTENERS)
async def test_an_argument_is_refused(relay: Whole, listener: str):
    async with relay.client(listener) as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code("STARTTLS now") == 501
        assert await client.code("NOOP") == 250


GARBAGE = {
    "a command": b"MAIL FROM:<a@b.test>\r\n",
    "a record of no length": b"\x16\x03\x01\x00\x00",
    "a record too long": b"\x16\x03\x01\xff\xff" + b"\x01" * 65535,
    "data before the handshake": b"\x17\x03\x03\x00\x06QUIT\r\n",
    "an alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "a hello cut short": b"\x16\x03\x01\x00\x08\x01\x00\x00\x04\x03\x03\x00\x00",
    "a hello of SSLv2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(37),
    "all octets": bytes(range(256)) * 64,
}


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("octets", GARBAGE.values(), ids=GARBAGE)
async def test_what_is_no_handshake_gets_no_reply(relay: Whole, octets: bytes, listener: str):
    async with relay.client(listener) as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code("STARTTLS") == 220
        client.send(octets)
        rest = b""
        # It may have been closed before all was sent.
        with contextlib.suppress(OSError):
            client.writer.write_eof()
            rest = await asyncio.wait_for(client.reader.read(), HANG)
        assert no_plaintext(rest)
    async with relay.client(listener) as other:
        assert await other.code("NOOP") == 250


def broken_off(relay: Whole, listener: str, token: str, command: str, end: str) -> bytes:
    """A message whose TLS ends in its middle, and its rest in plaintext; what came back after that."""
    client = BareTls(relay.ports[listener], "127.0.0.66" if listener == "submit" else "127.0.0.1")
    try:
        client.starttls()
        assert client.code("EHLO c.test") == 250
        if listener == "submit":
            assert client.code(f"AUTH PLAIN {plain(USER, PASSWORD)}") == 235
        assert client.code("MAIL FROM:<app@sender.test>") == 250
        assert client.code(f"RCPT TO:<{token}@rcpt.test>") == 250
        if command == "DATA":
            assert client.code(command) == 354
        else:
            client.send(command.encode() + b"\r\n")
        client.send(b"From: <app@sender.test>\r\n\r\nx\r\n")
        behind = b".\r\nMAIL FROM:<a@b.test>\r\nNOOP\r\n" + b"x" * 2000
        if end == "close_notify":
            client.end()
        elif end == "half a record":
            behind = client.record(b".\r\n")[:-4] + behind
        elif end == "a damaged record":
            record = client.record(b".\r\n")
            behind = record[:-1] + bytes([record[-1] ^ 1]) + behind
        client.plain(behind)
        return client.rest()
    finally:
        client.close()


@pytest.mark.parametrize("end", ["close_notify", "plaintext", "half a record", "a damaged record"])
@pytest.mark.parametrize("command", ["DATA", "BDAT 1000 LAST"])
@pytest.mark.parametrize("listener", ["submit", "open"])
async def test_plaintext_behind_the_end_of_tls_queues_nothing(relay: Whole, listener: str, command: str, end: str):
    """The server closes (`rest` returns), says nothing in the clear, and takes neither the message nor the commands."""
    token = relay.token()
    assert no_plaintext(await asyncio.to_thread(broken_off, relay, listener, token, command, end))
    assert token not in await relay.command("queue", "list", "--json")
    assert not any(token in rcpt.address for message in relay.receiver.messages for rcpt in message.recipients)


async def test_tls_before_1_2_is_refused(relay: Whole):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", relay.ports["implicit"], ssl=context)


async def test_many_handshakes_that_never_come_stop_nobody(relay: Whole):
    """Handshakes are off the accept path."""
    source = ("127.0.0.77", 0)
    stuck = [await asyncio.open_connection("127.0.0.1", relay.ports["implicit"], local_addr=source) for _ in range(40)]
    try:
        async with relay.user("implicit") as client:
            assert await client.code("NOOP") == 250
    finally:
        for _, writer in stuck:
            writer.close()


def serial(port: int) -> int:
    """The number of the certificate that a listener shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port)) as sock, context.wrap_socket(sock) as secured:
        return load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"").serial_number


async def test_a_new_certificate_reaches_new_handshakes_and_drops_no_session(tmp_path: Path):
    manager = whole(tmp_path)
    relay = await asyncio.to_thread(manager.__enter__)
    try:
        assert relay.process is not None
        clients = []
        for n in range(100):
            client = await relay.dial("submit", source=f"127.0.0.{101 + n % 4}")
            if n % 2:
                await secure(client)
                assert await client.code("EHLO c.test") == 250
                assert await client.code(f"AUTH PLAIN {plain(USER, PASSWORD)}") == 235
            clients.append(client)
        before = await asyncio.to_thread(serial, relay.ports["implicit"])
        certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        good = key.read_bytes()
        key.write_bytes(good[: len(good) // 2])
        os.kill(relay.process.pid, signal.SIGHUP)
        await until(lambda: "reload refused" in relay.log)
        assert await asyncio.to_thread(serial, relay.ports["implicit"]) == before, "half a pair changes nothing"
        certificate.unlink()
        write_pem(tmp_path)
        os.kill(relay.process.pid, signal.SIGHUP)
        await until(lambda: "reloaded" in relay.log)
        assert await asyncio.to_thread(serial, relay.ports["implicit"]) != before
        for client in clients:
            assert await client.code("NOOP") == 250
            await client.close()
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)
