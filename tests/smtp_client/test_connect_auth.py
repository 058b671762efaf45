"""AUTH at a peer: the best mechanism once, never in the clear, and nothing of the password in any error."""

import pytest

from relay.smtp.client.model import Credentials, Stage
from tests.support.answers import Close, Default, Hang
from tests.support.client import SHORT, delivers, dial, refused
from tests.support.receiver import Receiver

GOOD = Credentials("user", "secret")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
@pytest.mark.parametrize("starttls", [True, False])
async def test_auth(mechanism, starttls):
    receiver = Receiver(users={"user": "secret"}, auth=(mechanism,), starttls=starttls, auth_required=True)
    async with receiver:
        connection = await dial(receiver, credentials=GOOD)
        assert await delivers(connection)
        assert receiver.messages[0].session.user == "user"
        error = await refused(receiver, credentials=Credentials("user", "wrong"))
        assert (error.stage, error.kind, error.reply.code) == (Stage.AUTH, "reply", 535)


@pytest.mark.parametrize(("starttls", "first"), [(True, "PLAIN"), (False, "CRAM-MD5")])
async def test_one_attempt_with_the_best_mechanism(starttls, first):
    async with Receiver(users={"user": "x"}, auth=("LOGIN", "CRAM-MD5", "PLAIN"), starttls=starttls) as receiver:
        await refused(receiver, credentials=GOOD)
        tried = [c.split()[1] for c in receiver.sessions[0].commands if c.startswith("AUTH")]
        assert tried == [first]


async def test_another_mechanism_where_one_is_not_there():
    script = ["504 5.5.4 not that one", Default()]
    async with Receiver(users={"user": "secret"}, starttls=True, login=script) as receiver:
        await (await dial(receiver, credentials=GOOD)).quit()
        assert [c.split()[1] for c in receiver.sessions[0].commands if c.startswith("AUTH")] == ["PLAIN", "LOGIN"]


@pytest.mark.parametrize("features", [{}, {"users": {"user": "x"}, "auth": ("GSSAPI", "NTLM")}])
async def test_auth_not_offered(features):
    async with Receiver(starttls=True, **features) as receiver:
        error = await refused(receiver, credentials=GOOD)
        assert (error.stage, error.kind) == (Stage.AUTH, "protocol")


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ("421 4.7.0 closing", "reply"),
        ("454 4.7.0 later", "reply"),
        (Close(), "closed"),
        (Hang(), "timeout"),
        (b"x\r\n", "protocol"),
    ],
)
async def test_auth_gone_wrong(script, kind):
    async with Receiver(starttls=True, users={"user": "x"}, login=script) as receiver:
        error = await refused(receiver, credentials=GOOD, timeouts=SHORT)
        assert (error.stage, error.kind) == (Stage.AUTH, kind)


async def test_the_password_is_not_sent_in_the_clear(monkeypatch):
    # A loopback receiver that passes for a distant one: the rule looks at the address alone.
    monkeypatch.setattr("ipaddress.IPv4Address.is_loopback", property(lambda _: False))
    async with Receiver(users={"user": "secret"}) as receiver:
        error = await refused(receiver, credentials=GOOD)
        assert (error.stage, error.kind) == (Stage.AUTH, "tls")
        assert not any(command.startswith("AUTH") for command in receiver.sessions[0].commands)


async def test_echoed_secrets_are_removed():
    def echo(session, argument):
        return f"535 bad: {session.commands[-1]} password secret"

    async with Receiver(starttls=True, users={"user": "x"}, login=echo) as receiver:
        error = await refused(receiver, credentials=GOOD)
        assert "AHVzZXIAc2VjcmV0" not in f"{error} {error.reply}"
        assert "secret" not in f"{error} {error.reply}"


@pytest.mark.parametrize(
    "answer",
    [
        b"235 2.7.0 fine\r\n250 2.1.0 sender fine\r\n",
        b"235 2.7.0 fine\r\n250-",
        b"235-2.7.0 fine\r\n",
        "334 c2VjcmV0",
        "250 fine",
        "354 go on",
        b"AHVzZXIAc2VjcmV0\r\n",
    ],
    ids=repr,
)
async def test_replies_to_auth_that_are_none(answer):
    """Replies ahead of their commands, the wrong ones, echoes: no mail by this connection, and no secret told."""
    async with Receiver(starttls=True, users={"user": "secret"}, login=answer) as receiver:
        error = await refused(receiver, credentials=GOOD, timeouts=SHORT)
        assert error.stage is Stage.AUTH
        assert error.kind in {"protocol", "timeout"}
        assert "secret" not in f"{error} {error.reply}"
        assert "AHVzZXIAc2VjcmV0" not in f"{error} {error.reply}"
        assert not any(command.startswith("MAIL") for command in receiver.sessions[0].commands)
