"""What a ClientHello offers, read from whole, cut and hostile ones."""

import ssl
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.smtp.server.client_hello import ClientHello, complete, parse


def hello(*, name: str = "mx.test", ciphers: str = "DEFAULT", most: ssl.TLSVersion | None = None) -> bytes:
    """The first bytes of a client of OpenSSL's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers(ciphers)
    if most is not None:
        context.maximum_version = most
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def made(version: int, ciphers: list[int], extensions: bytes = b"", *, record: int = 1 << 14) -> bytes:
    """A ClientHello built by hand, in records of at most so many bytes."""
    listed = b"".join(struct.pack("!H", number) for number in ciphers)
    body = struct.pack("!H", version) + bytes(32) + b"\0" + struct.pack("!H", len(listed)) + listed + b"\1\0"
    if extensions:
        body += struct.pack("!H", len(extensions)) + extensions
    message = b"\1" + len(body).to_bytes(3) + body
    pieces = [message[at : at + record] for at in range(0, len(message), record)]
    return b"".join(b"\x16\3\1" + struct.pack("!H", len(piece)) + piece for piece in pieces)


def test_a_modern_client():
    found = parse(hello())
    assert found.versions == ("TLSv1.3", "TLSv1.2")
    assert found.ciphers[:3] == ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256")
    assert len(found.ciphers) <= 10
    assert found.name == "mx.test"


def test_an_older_client():
    found = parse(hello(ciphers="AES128-SHA", most=ssl.TLSVersion.TLSv1_2))
    assert (found.versions, found.ciphers) == (("TLSv1.2",), ("AES128-SHA",))


@pytest.mark.parametrize(
    ("version", "words"), [(0x0300, "SSLv3"), (0x0301, "TLSv1"), (0x0302, "TLSv1.1"), (0x0399, "0x0399")]
)
def test_versions_of_clients_without_extensions(version, words):
    assert parse(made(version, [0x002F, 0x00FF, 0x5600, 0x1234, 0xEAEA])) == ClientHello(
        (words,), ("AES128-SHA", "0x1234")
    )


@pytest.mark.parametrize("record", [1, 2, 5, 40])
def test_a_message_in_many_records(record):
    octets = made(0x0302, [0x002F, 0x0035], record=record)
    assert parse(octets) == ClientHello(("TLSv1.1",), ("AES128-SHA", "AES256-SHA"))
    assert complete(octets)


def test_cut_at_any_byte_it_tells_nothing_wrong():
    octets = hello()
    whole = parse(octets)
    for end in range(len(octets)):
        assert not complete(octets[:end])
        found = parse(octets[:end])
        if found is not None:
            assert found.versions in {(), whole.versions, whole.versions[: len(found.versions)]}
            assert found.ciphers[:-1] == whole.ciphers[: max(0, len(found.ciphers) - 1)]
    assert complete(octets)
    assert complete(octets + b"more")


@pytest.mark.parametrize(
    "octets", [b"", b"\x16", b"EHLO c.test\r\n", b"\x15\3\1\0\2\2\x28", b"\x80\x2e\1\0\2", bytes(500)]
)
def test_what_is_no_hello(octets):
    assert parse(octets) is None
    assert complete(octets) is (octets[:1] not in {b"", b"\x16"})


@given(st.binary(max_size=600))
def test_any_bytes(octets):
    for beginning in (b"", b"\x16\3\1\2\0", b"\x16\3\1\2\0\1\0\1\xfc\3\3" + bytes(32)):
        found = parse(beginning + octets)
        complete(beginning + octets)
        if found is not None:
            assert len(found.ciphers) <= 10
            assert len(found.versions) <= 5
            assert all(len(cipher) < 60 for cipher in found.ciphers)
