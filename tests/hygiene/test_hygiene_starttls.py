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

from tests.support.certificates import client_context, write_pem
from tests.support.raw_smtp import HANG
from tests.support.running import until
from tests.support.whole import PASSWORD, USER, Whole, plain, secure, whole


@pytest.mark.parametrize("injected", [b"RSET\r\nNOOP\r\n", b"N", b"\r\n", b"EHLO c.test\r\n"])
async def test_injected_commands_are_not_run(relay: Whole, injected: bytes):
    async with relay.client("submit", stranger=True) as client:
        assert await client.code("EHLO c.test") == 250
        client.send(b"STARTTLS\r\n" + injected)
        assert (await client.rest()).startswith("554 5.5.0 ")


@pytest.mark.parametrize("listener", ["submit", "optional", "open"])
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


async def test_an_argument_is_refused(relay: Whole):
    async with relay.client("submit") as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code("STARTTLS now") == 501


async def test_plaintext_in_place_of_a_handshake_gets_no_reply(relay: Whole):
    async with relay.client("submit") as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code("STARTTLS") == 220
        client.send(b"MAIL FROM:<a@b.test>\r\n")
        rest = await asyncio.wait_for(client.reader.read(), HANG)
        assert not rest or rest[0] == 0x15, "an alert at most"


@pytest.mark.parametrize("command", ["DATA", "BDAT 1000 LAST"])
async def test_plaintext_behind_the_end_of_tls_queues_nothing(relay: Whole, command: str):
    token = relay.token()
    async with relay.user() as client:
        assert await client.code("MAIL FROM:<app@sender.test>") == 250
        assert await client.code(f"RCPT TO:<{token}@rcpt.test>") == 250
        if command == "DATA":
            assert await client.code(command) == 354
        else:
            client.send(command.encode() + b"\r\n")
        client.send(b"From: <app@sender.test>\r\n\r\nx\r\n")
        await client.writer.drain()
        raw = socket.socket(fileno=os.dup(client.writer.get_extra_info("socket").fileno()))
        client.writer.close()
        with contextlib.suppress(OSError):
            raw.send(b".\r\nMAIL FROM:<a@b.test>\r\n" + b"x" * 2000)
        raw.close()
    async with relay.client("open") as other:
        assert await other.code("NOOP") == 250
    assert token not in await relay.command("queue", "list", "--json")


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
