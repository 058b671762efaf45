"""Setting a session up: TCP, greeting, EHLO, STARTTLS, AUTH, against real and wicked receivers."""

import asyncio
import socket
import ssl

import pytest

from relay.smtp.client.model import Stage, TlsPolicy
from relay.smtp.client.tls import ClientTls
from tests.support.answers import Close, Delay, Endless, Hang, Trickle
from tests.support.certificates import expired_context, untrusted_context
from tests.support.client import SHORT, delivers, dial, refused
from tests.support.descriptors import no_descriptors
from tests.support.receiver import Receiver

ALL_STARTTLS = [TlsPolicy.OPPORTUNISTIC, TlsPolicy.REQUIRED, TlsPolicy.VERIFY]
STRICT = [TlsPolicy.REQUIRED, TlsPolicy.VERIFY]


async def test_plain():
    async with Receiver() as receiver:
        connection = await dial(receiver)
        assert connection.tls is None
        assert connection.remote == f"mx.test[127.0.0.1]:{receiver.port}"
        assert connection.usable
        assert connection.features.pipelining
        assert connection.features.size == 100 * 1024 * 1024
        assert await delivers(connection)
        assert receiver.sessions[0].helo == "c.test"
        assert receiver.sessions[0].commands[-1] == "QUIT"


async def test_ipv6_and_source_address():
    async with Receiver(address="::1") as receiver:
        connection = await dial(receiver, source="::1")
        assert connection.remote == f"mx.test[::1]:{receiver.port}"
        assert await delivers(connection)
    async with Receiver() as receiver:
        assert await delivers(await dial(receiver, source="127.0.0.9"))
        assert receiver.sessions[0].peer[0] == "127.0.0.9"


async def test_impossible_source():
    async with Receiver() as receiver:
        error = await refused(receiver, source="192.0.2.1")
        assert (error.stage, error.kind) == (Stage.CONNECT, "unreachable")


async def test_no_descriptors_is_our_own_fault():
    async with Receiver() as receiver:
        with no_descriptors():
            error = await refused(receiver)
        assert (error.stage, error.kind) == (Stage.CONNECT, "local")
        assert error.text == "too many open files"


async def test_refused():
    receiver = Receiver()
    await receiver.start()
    await receiver.stop()
    error = await refused(receiver)
    assert (error.stage, error.kind) == (Stage.CONNECT, "refused")
    assert error.remote == f"mx.test[127.0.0.1]:{receiver.port}"


async def test_black_hole():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(3):  # a full backlog: further connections get no answer at all
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        receiver = Receiver(port=listener.getsockname()[1])
        error = await refused(receiver, timeouts=SHORT)
        assert (error.stage, error.kind) == (Stage.CONNECT, "timeout")
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize(
    ("greeting", "kind", "code"),
    [
        ("554 5.7.1 no service", "reply", 554),
        ("521 no mail", "reply", 521),
        ("421 4.3.2 too busy", "reply", 421),
        ("450 wait", "reply", 450),
        ("250 wrong", "protocol", None),
        ("354 wrong", "protocol", None),
        (b"hello\r\n", "protocol", None),
        (b"\r\n", "protocol", None),
        (b"\x16\x03\x01\x00\x00\r\n", "protocol", None),
        (b"999 what\r\n", "protocol", None),
        (b"220 " + b"x" * 1_000_000 + b"\r\n", "protocol", None),
        (Endless(b"220-and so on\r\n"), "protocol", None),
        (Endless(b"x"), "protocol", None),
        (Close(), "closed", None),
        (Close(reset=True), "closed", None),
        (Hang(), "timeout", None),
        (Hang(b"220"), "timeout", None),
        (Hang(b"220-go\r\n"), "timeout", None),
    ],
)
async def test_greetings(greeting, kind, code):
    async with Receiver(greeting=greeting) as receiver:
        error = await refused(receiver, timeouts=SHORT)
        assert (error.stage, error.kind) == (Stage.GREETING, kind)
        assert (error.reply.code if error.reply else None) == code
        await receiver.until(lambda: receiver.open == 0)
        assert len(receiver.sessions) == 1


@pytest.mark.parametrize("greeting", [Trickle(), Delay(0.05), "220-a\n220-b\n220 c"])
async def test_odd_greetings_that_are_all_right(greeting):
    async with Receiver(greeting=greeting) as receiver:
        assert await delivers(await dial(receiver))


@pytest.mark.parametrize("ehlo", [Trickle(), Delay(0.05)])
async def test_odd_ehlos_that_are_all_right(ehlo):
    async with Receiver(ehlo=ehlo) as receiver:
        connection = await dial(receiver)
        assert connection.features.pipelining
        assert await delivers(connection)


@pytest.mark.parametrize("code", ["500", "501", "502", "504", "550"])
async def test_helo_where_ehlo_is_not_known(code):
    async with Receiver(ehlo=f"{code} what?") as receiver:
        connection = await dial(receiver)
        assert not connection.features.pipelining
        assert connection.features.size is None
        assert await delivers(connection)
        assert [c.split()[0] for c in receiver.sessions[0].commands] == ["EHLO", "HELO", "MAIL", "RCPT", "DATA", "QUIT"]
        assert receiver.problems == []


@pytest.mark.parametrize("close", [Close(), Close(reset=True)])
async def test_helo_on_a_new_connection_where_ehlo_hangs_up(close):
    async with Receiver(ehlo=close) as receiver:
        assert await delivers(await dial(receiver))
        assert [s.commands[0].split()[0] for s in receiver.sessions] == ["EHLO", "HELO"]


async def test_a_peer_that_hangs_up_on_all_is_tried_twice():
    async with Receiver(ehlo=Close(), helo=Close()) as receiver:
        error = await refused(receiver)
        assert (error.stage, error.kind) == (Stage.EHLO, "closed")
        assert len(receiver.sessions) == 2


@pytest.mark.parametrize("policy", STRICT)
async def test_no_helo_without_tls_where_tls_is_required(policy):
    async with Receiver(ehlo=Close()) as receiver:
        error = await refused(receiver, policy)
        assert error.kind == "closed"
        assert len(receiver.sessions) == 1


@pytest.mark.parametrize(
    ("ehlo", "kind", "code"),
    [
        ("421 4.3.2 closing", "reply", 421),
        ("450 not now", "reply", 450),
        ("354 what", "protocol", None),
        (b"what\r\n", "protocol", None),
        (Hang(), "timeout", None),
        (b"250-" + b"x" * 1_000_000, "protocol", None),
        (Endless(), "protocol", None),
        (b"250-mx.test\r\n250 SIZE 1\r\n250 extra\r\n", "protocol", None),
    ],
)
async def test_ehlos_of_no_use(ehlo, kind, code):
    async with Receiver(ehlo=ehlo) as receiver:
        error = await refused(receiver, timeouts=SHORT)
        assert (error.stage, error.kind) == (Stage.EHLO, kind)
        assert (error.reply.code if error.reply else None) == code


async def test_a_reply_ahead_of_ehlo():
    async with Receiver(greeting=b"220 mx.test\r\n250-early\r\n250 PIPELINING\r\n") as receiver:
        error = await refused(receiver)
        assert error.kind == "protocol"


@pytest.mark.parametrize("policy", ALL_STARTTLS)
async def test_starttls(policy):
    async with Receiver(starttls=True) as receiver:
        connection = await dial(receiver, policy)
        assert connection.tls.startswith("TLSv1.3 ")
        assert not connection.features.starttls
        assert await delivers(connection)
        assert receiver.messages[0].tls == "TLSv1.3"
        assert receiver.problems == []


async def test_no_tls_by_policy():
    async with Receiver(starttls=True) as receiver:
        connection = await dial(receiver, TlsPolicy.NONE)
        assert connection.tls is None
        assert await delivers(connection)


@pytest.mark.parametrize("context", [expired_context, untrusted_context])
async def test_certificates_of_no_worth(context):
    async with Receiver(starttls=context()) as receiver:
        for policy in (TlsPolicy.OPPORTUNISTIC, TlsPolicy.REQUIRED):
            connection = await dial(receiver, policy)
            assert connection.tls is not None
            assert await delivers(connection)
        error = await refused(receiver, TlsPolicy.VERIFY)
        assert (error.stage, error.kind) == (Stage.STARTTLS, "tls")
        assert "certificate" in error.text


async def test_a_certificate_of_another_name():
    async with Receiver(starttls=True) as receiver:
        error = await refused(receiver, TlsPolicy.VERIFY, host="other.test")
        assert error.kind == "tls"
        assert "other.test" in error.text
        connection = await dial(receiver, TlsPolicy.REQUIRED, host="other.test")
        assert await delivers(connection)


async def test_implicit_tls():
    async with Receiver(implicit_tls=True) as receiver:
        connection = await dial(receiver, TlsPolicy.IMPLICIT)
        assert connection.tls.startswith("TLSv1.3 ")
        assert await delivers(connection)
        error = await refused(receiver, TlsPolicy.IMPLICIT, host="other.test")
        assert error.kind == "tls"


async def test_implicit_tls_to_a_plaintext_port():
    async with Receiver() as receiver:
        error = await refused(receiver, TlsPolicy.IMPLICIT, timeouts=SHORT)
        assert (error.stage, error.kind) == (Stage.GREETING, "tls")


@pytest.mark.parametrize("policy", STRICT)
async def test_starttls_not_offered(policy):
    async with Receiver() as receiver:
        error = await refused(receiver, policy)
        assert (error.stage, error.kind) == (Stage.STARTTLS, "tls")
        assert not any(command.startswith("MAIL") for command in receiver.sessions[0].commands)


REFUSALS = ["454 4.7.0 TLS not available", "500 what", "501 no", "554 no", "250 ok then"]


@pytest.mark.parametrize("reply", REFUSALS)
async def test_starttls_refused(reply):
    async with Receiver(starttls=True, tls=reply) as receiver:
        connection = await dial(receiver)
        assert connection.tls is None
        assert await delivers(connection)
        assert len(receiver.sessions) == 1
        for policy in STRICT:
            error = await refused(receiver, policy)
            assert (error.stage, error.kind) == (Stage.STARTTLS, "tls")


async def plaintext_after_client_hello(session, _):
    session.writer.write(b"220 go\r\n")
    await session.reader.read(1 << 16)
    return Close(b"250-mx.test\r\n250 AUTH PLAIN\r\n")


BROKEN = [
    plaintext_after_client_hello,
    "421 4.3.0 closing",
    Close(),
    Close("220 go"),
    Close("220 go", reset=True),
    Hang(),
    Hang("220 go"),
    Hang(b"220 go\r\n\x15\x03\x01 this is not TLS\r\n"),
    b"nonsense\r\n",
]


@pytest.mark.parametrize("script", BROKEN)
async def test_starttls_broken(script):
    async with Receiver(starttls=True, tls=script) as receiver:
        connection = await dial(receiver, timeouts=SHORT)
        assert connection.tls is None
        assert await delivers(connection)
        assert "STARTTLS" not in receiver.sessions[-1].commands
        assert len(receiver.sessions) <= 2
        for policy in STRICT:
            error = await refused(receiver, policy, timeouts=SHORT)
            assert (error.stage, error.kind) == (Stage.STARTTLS, "tls")


@pytest.mark.parametrize("policy", ALL_STARTTLS)
async def test_injected_replies_are_not_used_after_tls(policy):
    injected = b"220 ready\r\n250-mx.test\r\n250-SIZE 1\r\n250 AUTH PLAIN\r\n"
    async with Receiver(starttls=True, tls=injected) as receiver:
        connection = await dial(receiver, policy)
        assert connection.tls is not None
        assert connection.features.size == 100 * 1024 * 1024
        assert connection.features.auth == ()
        assert await delivers(connection)


async def test_what_was_offered_before_tls_is_forgotten():
    calls = []

    def ehlo(session, _):
        calls.append(session.tls)
        return "250-mx.test\n250 SIZE 9" if session.tls else "250-mx.test\n250-STARTTLS\n250-PIPELINING\n250 DSN"

    async with Receiver(starttls=True, ehlo=ehlo) as receiver:
        connection = await dial(receiver)
        assert calls == [None, "TLSv1.3"]
        assert not connection.features.pipelining
        assert not connection.features.dsn
        assert connection.features.size == 9
        await connection.quit()


async def test_no_context_is_built_per_connection(monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("a TLS context was built")

    async with Receiver(starttls=True) as receiver:
        await (await dial(receiver, TlsPolicy.VERIFY)).quit()
        monkeypatch.setattr(ssl, "create_default_context", forbidden)
        for policy in (*ALL_STARTTLS, TlsPolicy.NONE):
            await (await dial(receiver, policy)).quit()


def test_the_systems_authorities_are_read_once_and_late(monkeypatch):
    calls = []
    real = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda *args: calls.append(args) or real(*args))
    tls = ClientTls()
    assert calls == []
    assert tls.verifying is tls.verifying
    assert len(calls) == 1
    assert tls.verifying.verify_mode is ssl.CERT_REQUIRED
    assert tls.verifying.check_hostname


@pytest.mark.parametrize("host", ["", "a..b", "x" * 70 + ".test", ".test", "mx.test.", "_mx.test", "127.0.0.1"])
async def test_odd_host_names_do_not_stop_opportunistic_tls(host):
    async with Receiver(starttls=True) as receiver:
        assert await delivers(await dial(receiver, host=host))


@pytest.mark.parametrize("stage", ["greeting", "ehlo", "tls"])
async def test_cancelling(stage):
    async with Receiver(starttls=True, **{stage: Hang()}) as receiver:
        task = asyncio.ensure_future(dial(receiver))
        await receiver.until(lambda: receiver.sessions)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await receiver.until(lambda: receiver.open == 0)
