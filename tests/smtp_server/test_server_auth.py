"""AUTH PLAIN and LOGIN."""

import asyncio
import base64

import pytest

from relay.smtp.reply import Reply
from relay_config.schema import Limits
from tests.support.raw_smtp import listening
from tests.support.remembering_handler import RememberingHandler
from tests.support.sans_io import Dialog


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


GOOD = b64(b"\0user\0pass")


def offered() -> Dialog:
    return Dialog(auth="optional").hello()


@pytest.mark.parametrize("word", ["AUTH PLAIN", "auth plain", "Auth Plain"])
async def test_plain(word):
    d = offered()
    assert d.say(f"{word} {GOOD}") == "235 2.7.0 Authenticated"
    assert d.handler.logins == [("user", "pass")]
    assert d.peer.identity.user == "user"


async def test_plain_without_initial_response():
    d = offered()
    assert d.say("AUTH PLAIN") == "334 "
    assert d.code(GOOD) == 235


async def test_login():
    d = offered()
    assert d.say("AUTH LOGIN") == "334 VXNlcm5hbWU6"
    assert d.say(b64(b"user")) == "334 UGFzc3dvcmQ6"
    assert d.code(b64(b"pass")) == 235
    d = offered()
    assert d.say(f"auth login {b64(b'user')}") == "334 UGFzc3dvcmQ6"
    assert d.code(b64(b"pass")) == 235


async def test_authzid_may_repeat_the_user_and_nobody_else():
    assert offered().code(f"AUTH PLAIN {b64(b'user' + b'%cuser%cpass' % (0, 0))}") == 235
    d = offered()
    assert d.say(f"AUTH PLAIN {b64(b'root' + b'%cuser%cpass' % (0, 0))}").startswith("535 5.7.8 ")
    assert not d.handler.logins


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ("*", 501),
        ("!!!!", 501),
        ("AHVzZXIAcGFzcw", 501),
        ("AHVz ZXIAcGFzcw==", 501),
        ("AHVzZXIAcGFzcw==x", 501),
        (b64(b"\0user\0passwo") + "=", 501),
        (b64(b"\0user\0passwo") + "====", 501),
        ("ünï", 501),
        ("", 501),
        (b64(b"user"), 501),
        (b64(b"\0user"), 501),
        (b64(b"\0user\0pass\0more"), 501),
        (b64(b"\0\0pass"), 535),
        (b64(b"\0user\0wrong"), 535),
        (b64(b"\0nobody\0pass"), 535),
        (b64(b"\0us\xffer\0pass"), 535),
        (b64(b"\0user\0pa\xff"), 535),
        (b64(b"\0us\r\ner\0pass"), 535),
        (GOOD, 235),
    ],
)
async def test_responses(response, code):
    d = offered()
    assert d.code("AUTH PLAIN") == 334
    assert d.code(response) == code
    assert d.code("NOOP") == 250


async def test_wrong_user_and_wrong_password_look_the_same():
    wrong = offered().say(f"AUTH PLAIN {b64(b'%cuser%cno' % (0, 0))}")
    assert wrong == offered().say(f"AUTH PLAIN {b64(b'%cnobody%cno' % (0, 0))}")
    assert wrong.startswith("535 5.7.8 ")


async def test_login_can_be_cancelled_at_each_step():
    for steps in ((), (b64(b"user"),)):
        d = offered()
        assert d.code("AUTH LOGIN") == 334
        for step in steps:
            assert d.code(step) == 334
        assert d.code("*") == 501
        assert d.code("NOOP") == 250
        assert d.code(f"AUTH PLAIN {GOOD}") == 235


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("AUTH", 501),
        ("AUTH CRAM-MD5", 504),
        ("AUTH XOAUTH2 abc", 504),
        (f"AUTH PLA\u0131N {GOOD}", 504),
        ("AUTH PLAIN a b", 501),
        ("AUTH PLAIN =", 501),
        ("AUTH LOGIN !", 501),
    ],
)
async def test_mistakes(line, code):
    d = offered()
    assert d.code(line) == code
    assert d.code("NOOP") == 250


async def test_order():
    d = Dialog(auth="optional")
    assert d.code(f"AUTH PLAIN {GOOD}") == 503
    assert d.code("HELO c.test") == 250
    assert d.code(f"AUTH PLAIN {GOOD}") == 503
    assert d.code("EHLO c.test") == 250
    assert d.code("MAIL FROM:<a@b.test>") == 250
    assert d.code(f"AUTH PLAIN {GOOD}") == 503
    assert d.code("RSET") == 250
    assert d.code(f"AUTH PLAIN {GOOD}") == 235
    assert d.code(f"AUTH PLAIN {GOOD}") == 503


async def test_it_is_not_offered_in_plaintext_to_others():
    d = Dialog(auth="optional")
    d.session.local = False
    assert "AUTH" not in d.say("EHLO c.test")
    assert d.say(f"AUTH PLAIN {GOOD}").startswith("538 5.7.11 ")
    assert not d.handler.logins


async def test_it_is_not_offered_where_it_is_off():
    d = Dialog(auth="off")
    assert "AUTH" not in d.say("EHLO c.test")
    assert d.code(f"AUTH PLAIN {GOOD}") == 503


async def test_three_failures_end_the_session():
    d = offered()
    wrong = f"AUTH PLAIN {b64(b'%cuser%cno' % (0, 0))}"
    assert d.codes(wrong) == [535]
    assert d.codes(wrong) == [535]
    assert d.codes(wrong) == [535, 421]
    assert d.closed


async def test_a_throttling_handler_is_passed_on():
    class Throttling(RememberingHandler):
        def authenticate(self, peer, user, password):
            return self._resolve(Reply(454, "4.7.0", "Later"))

    d = Dialog(Throttling(), auth="optional").hello()
    assert d.say(f"AUTH PLAIN {GOOD}") == "454 4.7.0 Later"
    assert d.peer.identity is None
    assert d.code("NOOP") == 250


async def test_an_internal_error_is_temporary(caplog):
    class Broken(RememberingHandler):
        def authenticate(self, peer, user, password):
            return self._resolve(RuntimeError("secret detail"))

    d = Dialog(Broken(), auth="optional").hello()
    assert d.say(f"AUTH PLAIN {GOOD}").startswith("451 4.3.0 ")
    assert d.peer.identity is None


async def test_credentials_never_reach_the_events():
    d = offered()
    d.say(f"AUTH PLAIN {b64(b'%cuser%csecret' % (0, 0))}")
    d.say("AUTH LOGIN")
    d.say(b64(b"user"))
    d.say(b64(b"secret"))
    d.say("AUTH LOGIN")
    d.say(b"x" * 13_000 + b"\r\n")
    assert d.say(b64(b"secret")).startswith("500 ")
    assert d.handler.refusals
    assert {command for command, _ in d.handler.refusals} == {"AUTH", "(unknown command)"}
    d.handler.refusals.clear()
    d.say("AUTH PLAIN x y")
    assert {command for command, _ in d.handler.refusals} == {"AUTH"}


async def test_a_line_of_12k_is_handled_and_a_longer_one_refused():
    d = offered()
    long = b64(b"\0user\0" + b"p" * 9000)
    assert len(long) < 12_288
    assert d.code("AUTH PLAIN") == 334
    assert d.code(long) == 535
    assert d.code(f"AUTH PLAIN {long}") == 535
    d = offered()
    assert d.code("AUTH PLAIN") == 334
    assert d.code("A" * 12_287) == 500
    assert d.code("NOOP") == 250
    assert d.code("AUTH PLAIN " + "A" * 12_287) == 500
    assert d.code("NOOP") == 250


async def test_a_megabyte_is_refused_while_it_comes():
    d = offered()
    assert d.code("AUTH PLAIN") == 334
    codes = []
    for _ in range(256):
        codes += d.codes(b"A" * 4096)
        assert d.engine.waiting <= 12_288 + 4096
    assert codes == [500]
    assert d.codes(b"\r\nNOOP\r\n") == [250]


async def test_pipelined_commands_wait_for_the_password_check():
    async with listening(RememberingHandler(manual=True), auth="optional", plaintext_auth=True) as server:
        client = await server.connect()
        await client.code("EHLO c.test")
        client.send(f"AUTH PLAIN {GOOD}\r\nMAIL FROM:<a@b.test>\r\nNOOP\r\n".encode())
        while not server.handler.pending:
            await asyncio.sleep(0.01)
        future = server.handler.pending[0]
        future.set_result(future.verdict)
        assert [(await client.reply())[:9] for _ in range(3)] == ["235 2.7.0", "250 2.1.0", "250 2.0.0"]


async def test_a_client_that_leaves_meanwhile_does_no_harm():
    async with listening(RememberingHandler(manual=True), auth="optional", plaintext_auth=True) as server:
        client = await server.connect()
        await client.code("EHLO c.test")
        client.send(f"AUTH PLAIN {GOOD}\r\n".encode())
        while not server.handler.pending:
            await asyncio.sleep(0.01)
        client.writer.transport.abort()
        await asyncio.sleep(0.02)
        future = server.handler.pending[0]
        future.set_result(future.verdict)
        while not server.handler.closed:
            await asyncio.sleep(0.01)


async def test_the_number_of_failures_is_a_setting():
    d = Dialog(auth="optional", limits=Limits(auth_failures=1)).hello()
    assert d.codes(f"AUTH PLAIN {b64(b'%cuser%cno' % (0, 0))}") == [535, 421]
