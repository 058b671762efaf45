"""What is repaired before it is signed, and that signatures verify afterwards."""

import quopri

import pytest

from relay.message.dkim.sign import KeyRing
from tests.support.dkim_keys import key, results
from tests.support.submitting import BODY, HEAD, Submitting, refusal

HTML = "<p>grüße</p> ".encode()


def clients(world):
    return [world.alice(), world.peer("127.0.0.1", "127.0.0.1:25")]


@pytest.mark.parametrize("algorithm", ["ed25519", "rsa"])
@pytest.mark.parametrize("size", [2_000, 200_000, 800_000])
async def test_a_long_line_is_repaired_and_then_signed(tmp_path, algorithm, size):
    one = key(algorithm=algorithm)
    world = Submitting(tmp_path, keys=[one])
    body = HTML * (size // len(HTML)) + b"\r\nend\r\n"
    for peer in clients(world):
        assert (await world.send(peer, HEAD + b"Content-Type: text/html\r\n\r\n" + body)).code == 250
        put = world.outlet.offered[-1]
        octets = world.octets(put)
        head, _, got = octets.partition(b"\r\n\r\n")
        assert max(map(len, octets.split(b"\r\n"))) <= 998
        assert b"Content-Transfer-Encoding: quoted-printable" in head
        assert quopri.decodestring(got) == body
        assert results(octets, one) == [True]
        assert put.entry.message.size == len(octets)
        assert put.entry.message.eightbit is False
    kept = [path for path in (tmp_path / "bodies").rglob("*") if path.is_file()]
    assert len(kept) == sum(put.body.file is not None for put in world.outlet.offered), "no other file is left"
    world.handler.close()


@pytest.mark.parametrize(
    "content",
    [
        HEAD + b"References: " + b"<1@example.org> " * 200 + b"\r\n\r\n" + BODY,
        HEAD + b"References: " + b"x" * 2000 + b"\r\n\r\n" + BODY,
        HEAD + b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n" + HTML * 200 + b"\r\n--b--\r\n",
        HEAD.replace(b"Alice", b"[Alice]") + b"\r\n" + BODY,
        HEAD.replace(b"Alice <alice@example.org>", b"x@y.test < alice@example.org. >;") + b"\r\n" + BODY,
        HEAD + b"Message-ID: <>\r\nDate:\r\n\r\n" + BODY,
        b"From root Sat Nov 28 07:37:12 2026\r\n" + HEAD + b"\r\n" + BODY,
        HEAD.replace(b"bob@example.net", b"bob, carl") + b"\r\n" + BODY,
    ],
    ids=["references", "word", "signed", "name", "address", "empty", "mbox", "names"],
)
async def test_signatures_hold_after_each_repair(tmp_path, content):
    one = key()
    world = Submitting(tmp_path, keys=[one])
    world.handler.reload(world.settings(submission={"default_domain": "example.org"}), KeyRing({"example.org": [one]}))
    for peer in clients(world):
        assert (await world.send(peer, content)).code == 250
        assert results(world.octets(world.outlet.offered[-1]), one) == [True]
    world.handler.close()


async def test_long_lines_are_refused_where_the_settings_say_so(world):
    world.handler.reload(world.settings(submission={"long_lines": "refuse"}), KeyRing({}))
    for peer in clients(world):
        assert refusal(world.send(peer, HEAD + b"\r\n" + b"x" * 999)) == "500 5.5.2"
        assert (await world.send(peer, HEAD + b"\r\n" + b"x" * 998)).code == 250


async def test_lines_of_998_bytes_stay(world):
    content = HEAD + b"X: " + b"a " * 497 + b"b\r\n\r\n" + b"x" * 998 + b"\r\n"
    for peer in clients(world):
        assert (await world.send(peer, content)).code == 250
        assert content.partition(b"\r\n\r\n")[2] == world.octets(world.outlet.offered[-1]).partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("size", [2_000, 800_000])
async def test_no_room_for_the_repaired_body(world, tmp_path, size, monkeypatch):
    real = world.queue.new_file
    files = []

    def new_file():
        if len(files) == (size > 1 << 18):
            raise OSError(28, "No space left on device")
        files.append(real())
        return files[-1]

    monkeypatch.setattr(world.queue, "new_file", new_file)
    # Small: the repaired body is too large for memory.
    body = "ü".encode() * (size // 2 if size > 1 << 18 else 60_000)
    reply = await world.send(world.alice(), HEAD + b"\r\n" + body)
    assert refusal(reply) == "452 4.3.1"
    assert not [path for path in (tmp_path / "bodies").rglob("*") if path.is_file()]
    assert not world.recorder.named("problem")


async def test_a_fault_of_ours_in_a_repair_is_temporary(world, monkeypatch):
    def broken(*_):
        raise RuntimeError("secret detail")

    monkeypatch.setattr("relay.submission.compose.repaired", broken)
    reply = await world.send(world.alice(), HEAD + b"\r\n" + b"x" * 2000)
    assert refusal(reply) == "451 4.3.0"
    assert "secret" not in reply.text
