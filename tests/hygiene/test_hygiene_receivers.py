"""Hostile receivers against the whole relay: nothing counts as delivered that was not, nothing hangs, nothing leaks.

Each row is one receiver that misbehaves until its script is changed. Then the same message must arrive, once and whole,
while another domain's mail went through all the time.
"""

import asyncio
from collections import Counter
from typing import Any

import pytest

from relay_queue.sqlite import open_admin
from tests.support.answers import Close, Delay, Endless, Hang, Trickle
from tests.support.running import until
from tests.support.world import World, message, world

FLOOD = b"250 " + b"x" * 300_000 + b"\r\n"
SHORT = {
    "command_timeout": "1s",
    "data_timeout": "1s",
    "connect_timeout": "1s",
    "idle_timeout": "200ms",
}

SCRIPTS: dict[str, dict[str, Any]] = {
    "greets with nothing": {"greeting": Hang()},
    "greets octet by octet for ever": {"greeting": Endless(b"220-x\r\n")},
    "greets with a flood": {"greeting": FLOOD},
    "greets with 554": {"greeting": "554 5.3.2 go away"},
    "closes at once": {"greeting": Close()},
    "greets with EHLO's reply too": {"greeting": b"220 mx.test\r\n250 mx.test\r\n"},
    "greets with all replies of a delivery": {
        "greeting": b"220 mx.test\r\n250 mx.test\r\n250 ok\r\n250 ok\r\n354 go\r\n250 2.0.0 queued\r\n"
    },
    "EHLO hangs": {"ehlo": Hang()},
    "EHLO closes": {"ehlo": Close(), "helo": Close()},
    "EHLO is nonsense": {"ehlo": b"hello yourself\r\n"},
    "EHLO never ends": {"ehlo": Endless(b"250-X\r\n")},
    "EHLO with the replies to come": {
        "ehlo": b"250-mx.test\r\n250 PIPELINING\r\n250 ok\r\n250 ok\r\n354 go\r\n250 done\r\n"
    },
    "MAIL closes": {"mail": Close()},
    "MAIL resets": {"mail": Close(reset=True)},
    "MAIL hangs": {"mail": Hang()},
    "MAIL begins a reply": {"mail": Hang(b"250-ok\r\n")},
    "MAIL says 354": {"mail": "354 go"},
    "MAIL says more than was asked": {"mail": b"250 ok\r\n250 ok\r\n354 go\r\n250 2.0.0 queued\r\n"},
    "MAIL says 421": {"mail": "421 4.3.0 closing"},
    "RCPT closes": {"rcpt": Close()},
    "RCPT hangs": {"rcpt": Hang()},
    "RCPT says 354": {"rcpt": "354 go"},
    "RCPT mixes codes": {"rcpt": b"250-a\r\n550 b\r\n"},
    "RCPT says 299": {"rcpt": ["421 4.3.2 no"]},
    "RCPT says 999": {"rcpt": b"999 what\r\n"},
    "DATA closes": {"data": Close()},
    "DATA hangs": {"data": Hang()},
    "DATA says 250": {"data": "250 fine, got it"},
    "DATA says both at once": {"data": b"354 go\r\n250 2.0.0 queued already\r\n"},
    "DATA closes after 354": {"data": Close("354 go")},
    "DATA drips": {"data": Trickle("451 4.3.0 wait", 0.05)},
    "the end closes": {"content": Close()},
    "the end resets": {"content": Close(reset=True)},
    "the end begins": {"content": Close(b"25")},
    "the end begins well": {"content": Close(b"250-queued\r\n")},
    "the end hangs": {"content": Hang()},
    "the end says 354": {"content": "354 more"},
    "the end says 2": {"content": b"2\r\n"},
    "the end says 250x": {"content": b"250x queued\r\n"},
    "the end says 2500": {"content": b"2500 queued\r\n"},
    "the end is a flood": {"content": FLOOD},
    "the end never ends": {"content": Endless()},
    "the end is too late": {"content": Delay(3.0)},
    "the end is NULs": {"content": b"\0" * 2000 + b"\r\n"},
    "the end mixes codes": {"content": b"250-queued\r\n550 or not\r\n"},
    "the end says 450": {"content": "450 4.2.0 greylisted"},
}
UNHEARD = {"the end is a flood", "the end is too late"}
"""They did say 250, but not so that we could hear it: a message goes rather twice than not at all."""

ANSWERED = {"the end begins well", "the end never ends"}
"""They say 250 and never end the reply. After the final dot only one reply can come, so this is the answer, and the
message is not sent again; this receiver, which keeps only what it has answered to the end, does not have it."""


def states(w: World, queue_id: str) -> dict[str, str]:
    """Address -> state of a message's recipients."""
    admin = open_admin(w.relay.data_dir)
    try:
        found = {end.address: end.state.word for end in admin.ended(message_id=queue_id, limit=100)}
        entry = admin.show(queue_id)
        return found | {rcpt.address: rcpt.state.word for rcpt in (entry.recipients if entry else ())}
    finally:
        admin.close()


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "one by one"])
async def test_all_of_them(tmp_path_factory: pytest.TempPathFactory, pipelining: bool):
    """All receivers at once, each of its own domain: so that one also sees that none holds up another."""
    async with world(tmp_path_factory.mktemp("hostile")) as w:
        good = await w.mx("good.test")
        bad = {}
        for n, script in enumerate(SCRIPTS.values()):
            bad[f"d{n}.test"] = await w.mx(f"d{n}.test", pipelining=pipelining, **script)
        throttle = {"rate": "0", "connection_rate": "0", "backoff": "300ms", "backoff_max": "600ms"}
        await w.start(delivery=SHORT, throttle=throttle)
        ids = {}
        for domain in bad:
            ids[domain] = await w.send([f"a@{domain}", f"b@{domain}"], content=message(f"for {domain}"))
        for n in range(10):
            await w.send(f"u{n}@good.test")
        await good.wait(10)
        # Each has been tried, and one that hangs has been given up.
        await until(lambda: all(receiver.sessions for receiver in bad.values()), 60)
        await asyncio.sleep(3)
        for name, (domain, receiver) in zip(SCRIPTS, bad.items(), strict=True):
            told = [state for state in states(w, ids[domain]).values() if state == "delivered"]
            if name in ANSWERED:
                assert len(told) == 2, name
                continue
            assert len(told) <= len(receiver.recipients()), f"{name}: told as delivered, but was not"
        # Now all are good: everything arrives whole, once as far as the receiver said so.
        for script, receiver in zip(SCRIPTS.values(), bad.values(), strict=True):
            for stage in script:
                receiver.scripts.set(stage, None)
        await w.drained(90)
        for name, (domain, receiver) in zip(SCRIPTS, bad.items(), strict=True):
            got = Counter(receiver.recipients())
            wanted = {f"a@{domain}", f"b@{domain}"}
            ended = states(w, ids[domain])
            if name == "greets with 554":
                assert set(ended.values()) <= {"delivered", "failed"}
                continue
            assert set(ended.values()) == {"delivered"}, (name, ended)
            if name in ANSWERED:
                assert not got, f"{name}: {got}"
                continue
            assert set(got) == wanted, name
            assert name in UNHEARD or set(got.values()) == {1}, f"{name}: {got}"
            for taken in receiver.messages:
                assert taken.content.count(b"Subject: for " + domain.encode() + b"\r\n") == 1, name
                assert taken.content.endswith(b"Good morning.\r\n"), name
            assert not receiver.problems, (name, receiver.problems)
        assert "Traceback" not in w.relay.log


@pytest.mark.parametrize(
    "injected",
    [
        b"220 ready\r\n250-mx.test\r\n250 AUTH PLAIN\r\n",
        b"220 ready\r\n250 mx.test\r\n250 ok\r\n250 ok\r\n354 go\r\n250 2.0.0 queued\r\n",
    ],
)
async def test_what_is_injected_behind_220_is_not_used_within_tls(tmp_path_factory, injected: bytes):
    async with world(tmp_path_factory.mktemp("injected")) as w:
        mx = await w.mx("d.test", starttls=True, tls=injected)
        await w.start(delivery=SHORT)
        await w.send("a@d.test")
        await until(lambda: len(mx.sessions) >= 1 and any("STARTTLS" in s.commands for s in mx.sessions))
        await asyncio.sleep(0.5)
        assert all(message.tls is None or message.reply for message in mx.messages)
        assert not any("AUTH" in command for s in mx.sessions for command in s.commands)
        mx.scripts.set("starttls", None)
        await w.drained()
        assert mx.recipients() == ["a@d.test"]


@pytest.mark.parametrize("policy", ["required", "verify"])
@pytest.mark.parametrize("script", [{}, {"starttls": True, "tls": "454 4.7.0 not now"}], ids=["stripped", "refused"])
async def test_no_plaintext_where_tls_is_required(tmp_path_factory, policy: str, script: dict[str, Any]):
    async with world(tmp_path_factory.mktemp("strip")) as w:
        mx = await w.mx("d.test", **script)
        await w.start(delivery=SHORT | {"tls": policy})
        queue_id = await w.send("a@d.test")
        await until(lambda: len(mx.sessions) >= 2, 30)
        assert not any(command.startswith("MAIL") for s in mx.sessions for command in s.commands)
        assert states(w, queue_id)["a@d.test"] in {"queued", "active"}
        assert mx.messages == []


async def test_hostile_words_forge_no_log_line_and_no_notice(tmp_path_factory):
    words = b"550 5.1.1 no\x1b[31m such\x00 user \xe2\x80\xae\r\n"
    async with world(tmp_path_factory.mktemp("words")) as w:
        await w.mx("d.test", rcpt=words)
        home = await w.mx("sender.test")
        await w.start()
        await w.send("a@d.test")
        await home.wait(1)
        (bounce,) = home.messages
        assert bounce.sender == ""
        for octets in (w.relay.log.encode(), bounce.content):
            assert b"\x1b" not in octets
            assert b"\0" not in octets
            assert "\u202e".encode() not in octets
