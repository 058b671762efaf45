"""Who may send what as whom."""

import asyncio

import pytest

from relay.message.dkim.sign import KeyRing
from relay.model.transaction import RecipientPath, Transaction
from relay.submission import texts
from relay.submission.handler import SubmissionHandler
from tests.support.submitting import ALICE, HEAD, Submitting, refusal

RELAY_FORMS = [
    "victim@ext.test",
    "victim%ext.test@local.test",
    "ext.test!victim@local.test",
    "ext.test!victim",
    "@local.test:victim@ext.test",
    "@local.test,@local.test:victim@ext.test",
    '"victim@ext.test"@local.test',
    '"victim@ext.test"',
    "victim@ext.test@local.test",
    "victim@local.test@ext.test",
    "victim@ext.test.",
    "victim@[127.0.0.1]",
    "victim@127.0.0.1",
    "victim@[IPv6:::1]",
    "victim@[IPv6:::ffff:127.0.0.1]",
    "victim@localhost",
    "victim@EXT.TEST",
    "vic tim@ext.test",
    "victim\0@ext.test",
    "victim@ext.test,local.test",
    "victim@ext.test;local.test",
    "victim@ext.test(@local.test)",
    "victim\\@ext.test",
    "victim@sub.ext.test",
    "victim@xlocal.test",
    "victim@.local.test",
    "victim@l\u043ecal.test",
    "victim@[local.test]",
    "postmaster@mail.example.com",
]


@pytest.mark.parametrize(
    ("listener", "code"), [("127.0.0.1:25", "550 5.7.1"), ("127.0.0.1:2525", "550 5.7.1"), ("0.0.0.0:587", "530 5.7.0")]
)
def test_no_form_of_address_lets_an_outsider_relay(tmp_path, listener, code):
    assert len(RELAY_FORMS) == 29

    async def run():
        world = Submitting(tmp_path)
        peer = world.peer("192.0.2.66", listener)
        transaction = Transaction("s@ext.test", "ext.test")
        for form in RELAY_FORMS:
            path = RecipientPath(form, form.rpartition("@")[2].lower())
            assert refusal(world.handler.rcpt(peer, transaction, path)) == code
            # Even if a session forgot to ask, nothing is accepted.
            forgotten = Transaction("s@ext.test", "ext.test", recipients=[path])
            incoming = world.handler.incoming(peer, forgotten)
            incoming.write(HEAD + b"\r\n")
            assert refusal(await world.handler.accept(peer, forgotten, incoming)) == "550 5.7.1"
        assert not world.outlet.offered
        assert not world.store.messages

    asyncio.run(run())


async def test_mail_needs_a_login_on_submission(world):
    peer = world.peer()
    assert refusal(world.send(peer, HEAD)) == "530 5.7.0"
    trusted = world.peer("127.0.0.1")
    assert trusted.trusted
    assert refusal(world.send(trusted, HEAD)) == "530 5.7.0"


@pytest.mark.parametrize("listener", ["127.0.0.1:25", "127.0.0.1:2525"])
async def test_trusted_networks_relay_where_auth_is_not_required(world, listener):
    peer = world.peer("127.0.0.9", listener)
    assert (await world.send(peer, b"From: any@body.test\r\n\r\n", sender="any@body.test")).code == 250
    assert world.outlet.offered[0].entry.message.user is None
    assert b"with ESMTPS (" in world.outlet.offered[0].body.head


async def test_an_unknown_listener_is_strict(world):
    assert refusal(world.send(world.peer("127.0.0.1", "127.0.0.1:9"), HEAD)) == "530 5.7.0"


async def test_refusals_name_the_address_and_what_is_allowed(tmp_path):
    world = Submitting(tmp_path)
    reply = world.send(world.alice(), HEAD, sender="mallory@example.org")
    assert reply.text == (
        "You may not send from <mallory@example.org>; your account may use alice@example.org, shop.example"
    )
    reply = await world.send(world.alice(), b"From: Doe, John <mallory@evil.test>\r\n\r\n")
    assert reply.text == (
        "The From field names <mallory@evil.test>, which you may not use; "
        "your account may use alice@example.org, shop.example"
    )
    second = b"From: alice@example.org, x@evil.test\r\nSender: alice@example.org\r\n\r\n"
    assert "<x@evil.test>" in (await world.send(world.alice(), second)).text


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("x" * 300 + "@evil.test", "<" + "x" * 97 + "...>"),
        ("jürgen@evil.test", "<j?rgen@evil.test>"),
        ('"a\u202e\r\n250 OK\x1b[31m>"@evil.test', '<"a???250 OK?[31m?"@evil.test>'),
    ],
)
def test_what_a_client_wrote_is_shown_safely(address, shown):
    for reply in (texts.sender_denied(address, ("a@x.test",)), texts.author_denied(address, ("a@x.test",))):
        assert shown in reply.text
        assert reply.text.isascii()
        assert reply.text.isprintable()


def test_many_or_no_allowed_senders():
    many = tuple(f"{n}{'x' * 70}@x.test" for n in range(9))
    for reply in (texts.sender_denied("a" * 200, many), texts.author_denied("a" * 200, many)):
        assert "and 6 more" in reply.text
        assert len(reply.encode()) <= 512
    assert "ask the administrator" in texts.sender_denied("a@x.test", ()).text


async def test_envelope_senders_of_a_user(world):
    peer = world.alice()
    assert refusal(world.send(peer, HEAD, sender="mallory@example.org")) == "553 5.7.1"
    assert refusal(world.send(peer, HEAD, sender="alice@evil.test")) == "553 5.7.1"
    assert (await world.send(peer, HEAD, sender="bounces@shop.example")).code == 250
    assert (await world.send(peer, HEAD, sender="")).code == 250
    assert world.outlet.offered[-1].entry.message.sender == ""


@pytest.mark.parametrize(
    "field",
    [
        b"From: mallory@example.org\r\n",
        b"From: alice@example.org, mallory@example.org\r\nSender: alice@example.org\r\n",
        b'From: "alice@example.org" <mallory@evil.test>\r\n',
        b"From: alice@example.org.evil.test\r\n",
        b"From: alice@example.org <mallory@evil.test>\r\n",
        b"From: 'alice@example.org' < mallory@evil.test (alice@example.org) >\r\n",
        b"From: <mallory@evil.test(> <alice@example.org>)>\r\n",
    ],
)
async def test_from_of_a_user(world, field):
    assert refusal(await world.send(world.alice(), field + b"\r\n")) == "550 5.7.1"
    assert not world.store.messages


async def test_a_refused_header_lets_go_of_its_file(world, tmp_path):
    reply = await world.send(world.alice(), b"To: x\r\n\r\n" + b"line\r\n" * 100_000)
    assert refusal(reply) == "554 5.6.0"
    assert not [path for path in (tmp_path / "bodies").rglob("*") if path.is_file()]


async def test_loops_and_wide_headers(world):
    peer = world.alice()
    assert refusal(await world.send(peer, b"Received: x\r\n" * 51 + HEAD)) == "554 5.4.6"
    assert (await world.send(peer, b"Received: x\r\n" * 25 + HEAD)).code == 250
    assert refusal(await world.send(peer, b"X: y\r\n" * 20_000 + HEAD)) == "554 5.6.0"


async def test_logins(world):
    peer = world.peer()
    assert refusal(await world.handler.authenticate(peer, "alice", "wrong")) == "535 5.7.8"
    assert refusal(await world.handler.authenticate(peer, "nobody", "right")) == "535 5.7.8"
    assert await world.handler.authenticate(peer, "alice", "right") == ALICE
    assert [(kind, fields) for kind, _, fields in world.recorder.events if kind == "authenticated"] == [
        ("authenticated", {"success": False}),
        ("authenticated", {"success": False}),
        ("authenticated", {"success": True}),
    ]


async def test_guessing_is_slowed_down_by_client(tmp_path):
    world = Submitting(tmp_path, auth_failures_per_minute=3)
    peer = world.peer()
    for number in range(3):
        await world.handler.authenticate(peer, f"user{number}", "wrong")
    reply = await world.handler.authenticate(peer, "alice", "right")
    assert refusal(reply) == "454 4.7.0"
    assert "60 seconds" in reply.text
    assert world.passwords.asked == 3
    assert await world.handler.authenticate(world.peer("198.51.100.1"), "alice", "right") == ALICE
    world.now += 61
    assert await world.handler.authenticate(peer, "alice", "right") == ALICE


async def test_a_clock_set_back_neither_blocks_a_user_nor_forgives_a_guesser(tmp_path):
    world = Submitting(tmp_path, messages_per_hour=2, auth_failures_per_minute=2)
    peer = world.alice()
    assert [(await world.send(peer, HEAD)).code for _ in range(2)] == [250, 250]
    await world.handler.authenticate(world.peer(), "alice", "wrong")
    world.set_back = 86_400.0
    await world.handler.authenticate(world.peer(), "alice", "wrong")
    assert refusal(await world.handler.authenticate(world.peer(), "alice", "right")) == "454 4.7.0"
    world.now += 3601
    assert (await world.send(peer, HEAD)).code == 250


async def test_many_right_logins_are_no_guessing(tmp_path):
    world = Submitting(tmp_path, auth_failures_per_minute=3)
    peer = world.peer()
    replies = await asyncio.gather(*[world.handler.authenticate(peer, "alice", "right") for _ in range(50)])
    assert replies == [ALICE] * 50


async def test_the_users_of_the_data_folder_by_default(tmp_path):
    world = Submitting(tmp_path)
    handler = SubmissionHandler(world.settings(), world.queue, world.outlet, world.recorder, keys=KeyRing({}))
    assert refusal(await handler.authenticate(world.peer(), "alice", "right")) == "535 5.7.8"
    handler.close()
