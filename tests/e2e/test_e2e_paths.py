"""Where mail goes: the way through DNS, MX hosts and lanes to the recipient's server."""

import asyncio
import json

from tests.support.world import World, message


async def test_a_message_arrives_as_it_was_handed_in(world: World):
    mx = await world.mx("example.test")
    relay = await world.start()
    queue_id = await world.send("someone@example.test", content=message("first", "..dots\n.\n..\nend\n"))
    (got,) = await mx.wait(1)
    assert mx.recipients() == ["someone@example.test"]
    assert got.sender == "app@sender.test"
    head, _, body = got.content.partition(b"\r\n\r\n")
    assert body == b"..dots\r\n.\r\n..\r\nend\r\n"
    assert head.startswith(b"Received: from client.test")
    assert f"id {queue_id}".encode() in head.replace(b"\r\n\t", b" ")
    assert b"Message-ID: <" in head
    assert b"Date: " in head
    assert await relay.command("queue", "list", "--json") == ""
    events = [json.loads(line) for line in (await relay.command("events", "--id", queue_id, "--json")).splitlines()]
    assert [event["event"] for event in events] == ["accepted", "delivered"]


async def test_recipients_at_several_sites_each_get_one_copy(world: World):
    one = await world.mx("one.test")
    shared = await world.mx("two.test", "three.test")
    await world.start()
    await world.send(["a@one.test", "b@two.test", "c@three.test", "d@two.test"])
    await one.wait(1)
    await shared.wait(1)
    await world.drained()
    assert one.recipients() == ["a@one.test"]
    assert sorted(shared.recipients()) == ["b@two.test", "c@three.test", "d@two.test"]
    assert len(shared.messages) == 1, "domains with the same MX share a lane, and the message a transaction"


async def test_a_dead_first_mx_is_skipped(world: World):
    world.address("example.test", preference=5)
    second = await world.mx("example.test", preference=10)
    await world.start()
    await world.send("someone@example.test")
    await second.wait(1)


async def test_a_domain_without_mx_is_reached_by_its_address(world: World):
    mx = await world.mx("elsewhere.test")
    world.dns.zones["example.test"] = {"A": [mx.address]}
    await world.start()
    await world.send("someone@example.test")
    await mx.wait(1)


async def test_a_receiver_without_ehlo(world: World):
    mx = await world.mx("example.test", helo_only=True)
    await world.start()
    await world.send("someone@example.test")
    await mx.wait(1)


async def test_tls_is_used_where_offered(world: World):
    mx = await world.mx("example.test", starttls=True)
    await world.start()
    await world.send("someone@example.test")
    (got,) = await mx.wait(1)
    assert got.tls


async def test_a_smarthost_takes_all_mail_with_auth(world: World):
    hub = await world.mx("unused.test", starttls=True, users={"relay": "secret"}, auth_required=True)
    (world.folder / "password").write_text("secret\n")
    (world.folder / "password").chmod(0o600)
    await world.start(
        route=[
            {
                "domains": ["*"],
                "relay_host": f"{hub.address}:{hub.port}",
                "tls": "required",
                "user": "relay",
                "password_file": "password",
            }
        ]
    )
    await world.send(["a@one.test", "b@two.test"])
    (got,) = await hub.wait(1)
    assert sorted(hub.recipients()) == ["a@one.test", "b@two.test"]
    assert got.tls


async def test_smtputf8_goes_to_a_server_that_takes_it(world: World):
    mx = await world.mx("example.test")
    await world.start()
    content = message().replace(b"hello", "grüße".encode())
    await world.send(
        "jürgen@example.test",
        content=content,
        mail_options=["SMTPUTF8", "BODY=8BITMIME"],
    )
    (got,) = await mx.wait(1)
    assert mx.recipients() == ["jürgen@example.test"]
    assert "grüße".encode() in got.content


async def test_a_server_without_smtputf8_fails_it_with_a_reason(world: World):
    mx = await world.mx("example.test", smtputf8=False)
    await world.mx("sender.test")
    relay = await world.start()
    queue_id = await world.send("jürgen@example.test", mail_options=["SMTPUTF8"])
    await world.drained()
    assert mx.messages == []
    shown = await relay.command("events", "--id", queue_id, "--json")
    assert "5.6.7" in shown


async def test_a_large_body_arrives_whole(world: World):
    mx = await world.mx("example.test")
    await world.start()
    line = b"0123456789abcdef" * 4 + b"\r\n"
    content = message().replace(b"Good morning.\r\n", line * (30 * 1024 * 1024 // len(line)))
    await world.send("someone@example.test", content=content)
    (got,) = await mx.wait(1)
    assert got.content.partition(b"\r\n\r\n")[2] == content.partition(b"\r\n\r\n")[2]
    await world.drained()
    assert [path for path in (world.relay.data_dir / "bodies").rglob("*") if path.is_file()] == []


async def test_a_thousand_recipients(world: World):
    mx = await world.mx("example.test")
    await world.start()
    to = [f"user{n}@example.test" for n in range(1000)]
    await world.send(to)
    await mx.wait(10)
    await world.drained()
    assert sorted(mx.recipients()) == sorted(to)


async def test_bdat(world: World):
    mx = await world.mx("example.test")
    await world.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", world.relay.plain)
    content = message("in chunks")
    half = len(content) // 2
    writer.write(b"EHLO client.test\r\nMAIL FROM:<a@sender.test>\r\nRCPT TO:<someone@example.test>\r\n")
    writer.write(b"BDAT %d\r\n" % half + content[:half])
    writer.write(b"BDAT %d LAST\r\n" % (len(content) - half) + content[half:] + b"QUIT\r\n")
    replies = await reader.read()
    writer.close()
    assert replies.splitlines()[-1].startswith(b"221 ")
    (got,) = await mx.wait(1)
    assert got.content.endswith(content.partition(b"\r\n\r\n")[2])
