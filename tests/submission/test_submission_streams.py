"""The stream that a submitter names in X-Relay-Stream."""

import msgspec
import pytest

from relay.message.dkim.sign import KeyRing
from relay_config.schema import Stream
from relay_queue.model import DEFAULT_STREAM
from tests.support.dkim_keys import key, results
from tests.support.submitting import BODY, HEAD, Submitting, refusal


@pytest.mark.parametrize(
    ("field", "stream"),
    [
        (b"", DEFAULT_STREAM),
        (b"X-Relay-Stream: bulk\r\n", "bulk"),
        (b"x-relay-STREAM:  Bulk \r\n", "bulk"),
        (b"X-Relay-Stream: transactional\r\n", DEFAULT_STREAM),
    ],
)
async def test_the_field_names_the_stream_and_is_removed_before_signing(tmp_path, field, stream):
    one = key()
    world = Submitting(tmp_path, keys=[one])
    for peer in (world.alice(), world.peer("127.0.0.1", "127.0.0.1:25")):
        assert (await world.send(peer, HEAD + field + b"\r\n" + BODY)).code == 250
        put = world.outlet.offered[-1]
        assert put.entry.message.stream == stream
        octets = world.octets(put)
        assert b"x-relay-stream" not in octets.lower()
        assert results(octets, one) == [True]
    world.handler.close()


@pytest.mark.parametrize(
    ("field", "said"),
    [
        (b"X-Relay-Stream: newsletter\r\n", "no stream 'newsletter'"),
        (b"X-Relay-Stream:\r\n", "no stream ''"),
        (b"X-Relay-Stream: bulk, transactional\r\n", "no stream 'bulk, transactional'"),
        (b"X-Relay-Stream: \xff\x1b[31m\r\n", "no stream '"),
        (b"X-Relay-Stream: " + b"x" * 900 + b"\r\n", "x..."),
        (b"X-Relay-Stream: bulk\r\nX-Relay-Stream: bulk\r\n", "more than one X-Relay-Stream"),
    ],
)
async def test_a_name_that_cannot_be_meant_is_refused(world, field, said):
    reply = await world.send(world.alice(), HEAD + field + b"\r\n" + BODY)
    assert refusal(reply) == "550 5.6.0"
    assert said in reply.text
    assert reply.text.isascii()
    assert reply.text.isprintable()
    assert len(reply.encode()) <= 512
    assert not world.outlet.offered


async def test_a_refused_message_is_not_counted(world):
    world.handler.reload(world.settings(messages_per_hour=1), KeyRing({}))
    refused = await world.send(world.alice(), HEAD + b"X-Relay-Stream: no\r\n\r\n" + BODY)
    assert refusal(refused) == "550 5.6.0"
    assert (await world.send(world.alice(), HEAD + b"\r\n" + BODY)).code == 250


async def test_a_reload_brings_a_new_stream(world):
    content = HEAD + b"X-Relay-Stream: digest\r\n\r\n" + BODY
    assert refusal(await world.send(world.alice(), content)) == "550 5.6.0"
    world.handler.reload(msgspec.structs.replace(world.settings(), stream={"digest": Stream()}), KeyRing({}))
    assert (await world.send(world.alice(), content)).code == 250
    assert world.outlet.offered[-1].entry.message.stream == "digest"
