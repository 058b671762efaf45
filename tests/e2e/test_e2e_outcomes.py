"""What becomes of mail: retries, bounces, expiry, mixed outcomes."""

import asyncio
import json
import os
import re
import signal

import pytest

from tests.support.answers import Close
from tests.support.dns import Fault
from tests.support.running import free_port, until
from tests.support.world import World, message


async def events(world: World, queue_id: str) -> list[str]:
    lines = (await world.relay.command("events", "--id", queue_id, "--json")).splitlines()
    return [json.loads(line)["event"] for line in lines]


async def test_greylisting_then_success(world: World):
    mx = await world.mx("example.test", rcpt=["451 4.7.1 Greylisted, try again later", "250 2.1.5 ok"])
    await world.start()
    queue_id = await world.send("someone@example.test")
    await mx.wait(1)
    await world.drained()
    assert await events(world, queue_id) == ["accepted", "deferred", "delivered"]


async def test_each_recipient_has_its_own_outcome(world: World):
    mx = await world.mx(
        "example.test",
        rcpt={
            "bad@example.test": "550 5.1.1 no such user",
            "later@example.test": ["450 4.2.1 mailbox busy", "250 2.1.5 ok"],
        },
    )
    sender = await world.mx("sender.test")
    await world.start()
    await world.send(["good@example.test", "bad@example.test", "later@example.test"])
    await mx.wait(2)
    (bounce,) = await sender.wait(1)
    await world.drained()
    assert sorted(mx.recipients()) == ["good@example.test", "later@example.test"]
    assert bounce.sender == ""
    assert sender.recipients() == ["app@sender.test"]
    assert b"bad@example.test" in bounce.content
    assert b"5.1.1" in bounce.content
    assert b"good@example.test" not in bounce.content.partition(b"text/rfc822-headers")[0]


async def test_a_refusal_bounces_at_once_with_one_dsn(world: World):
    mx = await world.mx("example.test", content="554 5.7.1 spam")
    sender = await world.mx("sender.test")
    await world.start()
    queue_id = await world.send("someone@example.test")
    await sender.wait(1)
    await world.drained()
    assert len(sender.messages) == 1
    assert mx.messages == []
    assert (await events(world, queue_id))[1:] in (["failed", "notified"], ["notified", "failed"])


async def test_a_bounce_names_the_server_that_answered_for_each_recipient(world: World):
    one = await world.mx("one.test", rcpt="550 5.1.1 no such user")
    other = await world.mx("other.test", content="554 5.7.1 spam")
    sender = await world.mx("sender.test")
    await world.start()
    await world.send(["a@one.test", "b@other.test", "c@nowhere.test"])
    (bounce,) = await sender.wait(1)
    groups = bounce.content.partition(b"message/delivery-status")[2].split(b"Final-Recipient: ")[1:]
    named = {group.split(b"\r\n")[0]: re.findall(rb"Remote-MTA: (.*)\r\n", group) for group in groups}
    assert named == {
        b"rfc822;a@one.test": [f"dns; {one.hostname}".encode()],
        b"rfc822;b@other.test": [f"dns; {other.hostname}".encode()],
        b"rfc822;c@nowhere.test": [],
    }
    assert f"{one.hostname}[{one.address}] said: 550 5.1.1".encode() in bounce.content
    assert f"{other.hostname}[{other.address}] said: 554 5.7.1".encode() in bounce.content


async def test_an_expired_message_names_the_last_server_that_answered(world: World):
    mx = await world.mx("example.test", rcpt="452 4.2.2 mailbox full")
    sender = await world.mx("sender.test")
    await world.start(retry={"schedule": ["1s"], "expire_after": "3s"})
    await world.send("someone@example.test")
    await mx.until(lambda: any(session.refused for session in mx.sessions))
    await mx.stop()
    (bounce,) = await sender.wait(1)
    assert f"Remote-MTA: dns; {mx.hostname}\r\n".encode() in bounce.content
    assert f"The last server that answered was {mx.hostname}[{mx.address}].".encode() in bounce.content.replace(
        b"=\r\n", b""
    ).replace(b"\r\n    ", b" ")


async def test_a_refusal_of_our_own_is_not_put_into_a_servers_mouth(world: World):
    mx = await world.mx("example.test", size=100)
    sender = await world.mx("sender.test")
    await world.start()
    await world.send("someone@example.test")
    (bounce,) = await sender.wait(1)
    assert b"5.3.4" in bounce.content
    assert b"Remote-MTA" not in bounce.content
    assert f"{mx.hostname}[{mx.address}] said".encode() not in bounce.content


@pytest.mark.parametrize("stage", ["rcpt", "content"])
async def test_a_large_message_is_returned_whole_when_that_was_asked_for(world: World, stage: str):
    await world.mx("example.test", **{stage: "550 5.7.1 no"})
    sender = await world.mx("sender.test")
    await world.start()
    content = message(body="0123456789 " * 39_000)
    for ret in ("FULL", "HDRS"):
        await world.send("someone@example.test", content=content, mail_options=[f"RET={ret}"])
    bounces = await sender.wait(2)
    full = next(bounce.content for bounce in bounces if len(bounce.content) > len(content))
    headers = next(bounce.content for bounce in bounces if len(bounce.content) < len(content))
    assert b"message/rfc822\r\n" in full
    assert content.partition(b"\r\n\r\n")[2] in full
    assert b"text/rfc822-headers" in headers


async def test_a_very_large_message_is_not_returned_whole(world: World):
    await world.mx("example.test", rcpt="550 5.7.1 no")
    sender = await world.mx("sender.test")
    await world.start()
    content = message(body="0123456789 " * 100_000)
    await world.send("someone@example.test", content=content, mail_options=["RET=FULL"])
    (bounce,) = await sender.wait(1)
    assert len(bounce.content) < 10_000
    assert b"text/rfc822-headers" in bounce.content


async def test_a_bounce_is_never_bounced(world: World):
    await world.mx("example.test", rcpt="550 5.1.1 no such user")
    sender = await world.mx("sender.test", rcpt="550 5.1.1 no such user either")
    await world.start()
    await world.send("someone@example.test")
    await sender.until(lambda: sender.sessions)
    await world.drained()
    assert len(sender.sessions) == 1


async def test_temporary_failures_expire_into_one_dsn_with_the_last_cause(world: World):
    await world.mx("example.test", rcpt="452 4.2.2 mailbox full")
    sender = await world.mx("sender.test")
    await world.start(retry={"schedule": ["1s"], "expire_after": "3s"})
    queue_id = await world.send("someone@example.test")
    (bounce,) = await sender.wait(1)
    await world.drained()
    assert b"mailbox full" in bounce.content
    assert b"Action: failed" in bounce.content
    told = await events(world, queue_id)
    assert told.count("expired") == 1
    assert told.count("deferred") >= 3
    assert len(sender.messages) == 1


async def test_a_null_mx_fails_at_once(world: World):
    world.dns.zones["example.test"] = {"MX": [(0, ".")]}
    sender = await world.mx("sender.test")
    await world.start()
    await world.send("someone@example.test")
    (bounce,) = await sender.wait(1)
    assert b"5.1.10" in bounce.content


async def test_a_sender_whose_domain_takes_no_mail_is_given_up(world: World):
    await world.mx("example.test", rcpt="550 5.1.1 no such user")
    world.dns.zones["sender.test"] = {"MX": [(0, ".")]}
    relay = await world.start()
    queue_id = await world.send("someone@example.test")
    await world.drained()
    lines = [json.loads(line) for line in (await relay.command("events", "--json")).splitlines()]
    accepted = [line["id"] for line in lines if line["event"] == "accepted"]
    assert len(accepted) == 2, "the message and one notice"
    assert accepted[0] == queue_id
    assert [line["event"] for line in lines if line.get("id") == accepted[1]] == ["accepted", "failed"]


@pytest.mark.parametrize(
    ("domain", "records"),
    [
        ("loop.test", {"loop.test": {"MX": [(10, "us.test")]}, "us.test": {"A": ["127.0.0.1"]}}),
        ("loop.test", {"loop.test": {"MX": [(10, "us.test")]}, "us.test": {"AAAA": ["::ffff:127.0.0.1"]}}),
        ("loop.test", {"loop.test": {"A": ["127.0.0.1"]}}),
        ("loop.test", {"loop.test": {"CNAME": "us.test"}, "us.test": {"A": ["127.0.0.1"]}}),
        ("loop.test", {"loop.test": {"MX": [(10, "relay.test")]}}),
        ("[127.0.0.1]", {}),
        ("[IPv6:::ffff:127.0.0.1]", {}),
    ],
    ids=["mx", "mapped", "address", "alias", "name", "literal", "mapped literal"],
)
async def test_mail_to_ourselves_fails_at_once_and_is_not_taken_in_again(world: World, domain: str, records):
    sender = await world.mx("sender.test")
    world.dns.zones |= records
    listeners = [{"address": f"127.0.0.1:{port}", "tls": "none", "auth": "off"} for port in (world.port, free_port())]
    relay = await world.start(
        plain=int(listeners[1]["address"].rpartition(":")[2]),
        listener=listeners,
        delivery={"ipv6": True},
    )
    await world.send(f"someone@{domain}")
    (bounce,) = await sender.wait(1)
    await world.drained()
    assert b"5.4.6" in bounce.content
    assert (await relay.command("events", "--json")).count('"accepted"') == 2, "the message and one notice"


async def test_what_a_sender_asks_to_be_told_forges_nothing_in_a_notice(world: World):
    """ENVID and ORCPT say what they like, and so does the receiver."""
    mx = await world.mx("example.test", rcpt=("550-5.1.1 " + "no such user " * 60 + "\r\n") * 5 + "550 5.1.1 no")
    sender = await world.mx("sender.test")
    await world.start()
    hostile = "x+20Injected:+20yes+20+3Cb+3E+20" + "y" * 50
    for octet in ("+0D", "+0A", "+00", "+1B", "+7F"):
        with pytest.raises(AssertionError, match=r"5\.5\.4 ENVID"):
            await world.send("someone@example.test", mail_options=[f"ENVID=x{octet}y"])
        with pytest.raises(AssertionError, match=r"5\.5\.4 ORCPT"):
            await world.send("someone@example.test", rcpt_options=[f"ORCPT=rfc822;x{octet}y"])
    await world.send(
        "someone@example.test",
        mail_options=[f"ENVID={hostile}"],
        rcpt_options=["NOTIFY=FAILURE", f"ORCPT=rfc822;{hostile}"],
    )
    (bounce,) = await sender.wait(1)
    await world.drained()
    assert mx.messages == []
    assert not any(line.startswith(b"Injected") for line in bounce.content.split(b"\r\n"))
    assert b"Original-Envelope-Id: x Injected: yes <b>\r\n yyy" in bounce.content
    (diagnostic,) = re.findall(rb"Diagnostic-Code: smtp;((?:.|\r\n )*)", bounce.content)
    assert len(diagnostic) < 1200
    assert all(len(line) <= 998 for line in bounce.content.split(b"\r\n"))


async def test_an_unknown_domain_fails_at_once(world: World):
    sender = await world.mx("sender.test")
    await world.start()
    await world.send("someone@nowhere.test")
    (bounce,) = await sender.wait(1)
    assert b"nowhere.test" in bounce.content


async def test_dns_trouble_is_temporary(world: World):
    await world.mx("example.test")
    world.dns.faults["example.test"] = Fault("servfail")
    relay = await world.start(dns={"nameservers": [world.dns.address], "timeout": "500ms"})
    await world.send("someone@example.test")
    await until(lambda: world.dns.faults["example.test"].seen >= 1)
    shown = await relay.command("queue", "list", "--json")
    assert '"queued"' in shown or '"active"' in shown


async def test_a_connection_closed_before_the_final_reply_is_tried_again(world: World):
    mx = await world.mx("example.test", content=[Close(), "250 2.0.0 ok"])
    await world.start()
    queue_id = await world.send("someone@example.test")
    await mx.wait(1)
    await world.drained()
    assert await events(world, queue_id) == ["accepted", "deferred", "delivered"]


@pytest.mark.parametrize(
    "answer",
    [
        b"\r\n250 2.0.0 queued\r\n",
        b"one moment\r\n250 2.0.0 queued\r\n",
        Close(b"250-queued\r\n"),
        b"250 " + b"x" * 5000 + b"\r\n",
    ],
    ids=["empty line", "stray line", "no last line", "long line"],
)
async def test_a_receiver_that_garbles_its_last_reply_gets_no_second_copy(world: World, answer: object):
    mx = await world.mx("example.test", content=answer)
    sender = await world.mx("sender.test")
    await world.start()
    queue_ids = [await world.send("someone@example.test") for _ in range(2)]
    await world.drained()
    await asyncio.sleep(1.5)  # longer than the first wait of the schedule
    for queue_id in queue_ids:
        assert await events(world, queue_id) == ["accepted", "delivered"]
    assert len(mx.transactions) == 2
    assert len(mx.sessions) == 2, "whoever is out of step is not asked again on the same connection"
    assert sender.sessions == []


async def test_a_refusal_behind_garbage_is_a_refusal(world: World):
    mx = await world.mx("example.test", content=b"\r\nspam!\r\n554 5.7.1 spam\r\n")
    sender = await world.mx("sender.test")
    await world.start()
    await world.send("someone@example.test")
    (bounce,) = await sender.wait(1)
    await world.drained()
    assert b"5.7.1" in bounce.content
    assert len(mx.transactions) == 1


async def test_success_is_reported_when_asked_and_the_next_server_does_not(world: World):
    await world.mx("example.test", dsn=False)
    sender = await world.mx("sender.test")
    await world.start()
    await world.send(
        "someone@example.test",
        mail_options=["RET=HDRS", "ENVID=abc123"],
        rcpt_options=["NOTIFY=SUCCESS", "ORCPT=rfc822;someone@example.test"],
    )
    (notice,) = await sender.wait(1)
    assert b"Action: relayed" in notice.content
    assert b"Original-Envelope-Id: abc123" in notice.content


async def test_dsn_requests_are_passed_on(world: World):
    mx = await world.mx("example.test")
    sender = await world.mx("sender.test")
    await world.start()
    await world.send(
        "someone@example.test",
        mail_options=["RET=FULL", "ENVID=abc"],
        rcpt_options=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;someone@example.test"],
    )
    (got,) = await mx.wait(1)
    await world.drained()
    assert got.params["ENVID"] == "abc"
    assert got.recipients[0].params["NOTIFY"] == "SUCCESS,FAILURE"
    assert sender.messages == []


async def test_a_delay_is_reported_once_when_asked(world: World):
    await world.mx("example.test", rcpt="450 4.2.1 busy")
    sender = await world.mx("sender.test")
    await world.start(retry={"schedule": ["1s"], "expire_after": "1h", "delay_notice_after": "1s"})
    await world.send("asked@example.test", rcpt_options=["NOTIFY=DELAY"])
    await world.send("silent@example.test")
    (notice,) = await sender.wait(1)
    assert b"Action: delayed" in notice.content
    assert b"Will-Retry-Until:" in notice.content
    assert b"busy" in notice.content
    await asyncio.sleep(2.5)
    assert len(sender.messages) == 1


async def test_notify_never_is_silent(world: World):
    await world.mx("example.test", rcpt="550 5.1.1 no")
    sender = await world.mx("sender.test")
    await world.start()
    await world.send("someone@example.test", rcpt_options=["NOTIFY=NEVER"])
    await world.drained()
    assert sender.sessions == []


@pytest.mark.parametrize("given", ["<Order+17=x@app.test>", None], ids=["its own", "the relay's"])
async def test_a_message_can_be_traced_by_its_message_id(world: World, given: str | None):
    await world.mx(
        "example.test", rcpt={"bad@example.test": "550 5.1.1 no such user", "later@example.test": "450 4.2.1 busy"}
    )
    sender = await world.mx("sender.test")
    relay = await world.start(retry={"schedule": ["1h"]})
    head = b"" if given is None else f"Message-ID: {given}\r\n".encode()
    await world.send("someone@example.test")
    recipients = ["good@example.test", "bad@example.test", "later@example.test"]
    queue_id = await world.send(recipients, content=head + message())
    (report,) = await sender.wait(1)
    wanted = given or f"<{queue_id}@relay.test>"
    await until(lambda: b"450 4.2.1" in relay.run("queue", "list", "--id", queue_id).stdout)

    for spelling in (wanted, wanted.strip("<>")):
        lines = (await relay.command("events", "--message-id", spelling, "--json")).splitlines()
        events = [json.loads(line) for line in lines]
        assert {event["id"] for event in events} == {queue_id}
        assert sorted(event["event"] for event in events) == ["accepted", "deferred", "delivered", "failed", "notified"]
        assert events[0]["message_id"] == wanted
        waiting = (await relay.command("queue", "list", "--message-id", spelling, "--json")).splitlines()
        assert [(found["recipient"], found["message_id"]) for found in map(json.loads, waiting)] == [
            ("later@example.test", wanted)
        ]
    assert await relay.command("queue", "list", "--message-id", wanted.swapcase(), "--json") == ""
    assert f"Message-ID: {wanted}\n" in await relay.command("queue", "show", queue_id)
    shown = (await relay.command("queue", "show", queue_id, "--json")).splitlines()
    assert [json.loads(line)["message_id"] for line in shown] == [wanted] * 3
    accepted = [line for line in relay.log.splitlines() if " event=accepted " in line and f" id={queue_id} " in line]
    assert len(accepted) == 1
    assert wanted in accepted[0]

    of_report = re.search(rb"\r\nMessage-ID: (\S+)\r\n", report.content)
    assert of_report is not None
    lines = (await relay.command("events", "--message-id", of_report[1].decode(), "--json")).splitlines()
    assert sorted(json.loads(line)["event"] for line in lines) == ["accepted", "delivered", "notified"]
    await relay.command("queue", "drop", "--message-id", wanted)
    await world.drained()
    assert f"Message-ID: {wanted}\n" in await relay.command("queue", "show", queue_id), "also when all has ended"


async def test_a_refusal_about_the_senders_authentication_bounces_at_once(world: World):
    reply = "550 5.7.134 RESOLVER.RST.SenderNotAuthenticatedForMailbox; authentication required"
    await world.mx("example.test", rcpt=reply)
    sender = await world.mx("sender.test")
    await world.start()
    await world.send("someone@example.test")
    (bounce,) = await sender.wait(1)
    await world.drained()
    assert b"Status: 5.7.134" in bounce.content


async def test_a_full_mailbox_does_not_stop_the_others_of_its_site(world: World):
    mx = await world.mx("example.test", rcpt={"full@example.test": "452 Mailbox size limit exceeded"})
    await world.start(throttle={"backoff": "1h", "backoff_max": "1h"})
    await world.send("full@example.test")
    await mx.until(lambda: mx.sessions)
    await until(lambda: "mailbox_full" in world.relay.log)
    await world.send("empty@example.test")
    await mx.wait(1)
    assert mx.recipients() == ["empty@example.test"]


async def test_a_complaint_about_the_senders_domain_does_not_blame_the_recipient(world: World):
    await world.mx("example.test", mail="553 #5.1.8 Domain of sender address does not exist")
    sender = await world.mx("sender.test")
    await world.start()
    await world.send("someone@example.test")
    (bounce,) = await sender.wait(1)
    text = b" ".join(bounce.content.split())
    assert b"Status: 5.1.8" in text
    assert b"Check the address" not in text
    assert b"The address is right" in text or b"by its rules" in text


async def test_a_reply_rule_decides_and_is_reloaded(world: World):
    mx = await world.mx("example.test", rcpt="550 5.7.1 not today")
    sender = await world.mx("sender.test")
    rule = {"pattern": "not today", "class": "throttled", "disposition": "temporary"}
    relay = await world.start(reply_rule=[rule], retry={"schedule": ["1h"], "expire_after": "2d"})
    assert relay.process is not None
    waiting = await world.send("someone@example.test")
    await until(lambda: "throttled" in relay.log)
    relay.write_settings(reply_rule=[rule | {"disposition": "permanent"}])
    os.kill(relay.process.pid, signal.SIGHUP)
    await until(lambda: "reloaded" in relay.log)
    await world.send("someone@example.test")
    await sender.wait(1)
    assert mx.messages == []
    assert await events(world, waiting) == ["accepted", "deferred"]
