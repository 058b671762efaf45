"""What a TLS client offers in its first message (RFC 8446 §4.1.2, RFC 5246 §7.4.1.2), to explain a failed handshake.

Sans-IO and tolerant: it reads as much as it can from a damaged or incomplete message. The result is used only in
reports and decides nothing; OpenSSL parses the same bytes itself.
"""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Final

HANDSHAKE: Final = 0x16
"""First byte of a TLS record that holds a handshake message (RFC 8446 §5.1)."""
_CLIENT_HELLO: Final = 1
_RECORD_HEADER: Final = 5
_SERVER_NAME, _SUPPORTED_VERSIONS = 0, 43
"""Extensions (RFC 6066 §3, RFC 8446 §4.2.1)."""
_VERSIONS: Final = {0x0300: "SSLv3", 0x0301: "TLSv1", 0x0302: "TLSv1.1", 0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}
_SIGNALLING: Final = frozenset({0x00FF, 0x5600})
"""Values in the list of ciphers that are signals, not ciphers: RFC 5746 §3.3, RFC 7507 §4."""
_SHOWN_CIPHERS: Final = 10
_LONGEST_NAME: Final = 255


@dataclass(slots=True)
class ClientHello:
    """The parts of a ClientHello used in reports; each is empty if the message does not have it."""

    versions: tuple[str, ...] = ()
    """All versions that the client offers, if it lists them; otherwise only the highest."""
    ciphers: tuple[str, ...] = ()
    """The first 10 ciphers by their OpenSSL names, or as `0x1234` if OpenSSL does not know them."""
    name: str = ""
    """The server name that the client asks for (SNI)."""


def parse(octets: bytes) -> ClientHello | None:
    """Parse the first bytes of a TLS connection; None if they are not a ClientHello."""
    cursor = _Cursor(_message(octets))
    if cursor.number(1) != _CLIENT_HELLO:
        return None
    cursor.take(3)  # the message's length
    highest = cursor.number(2)
    if cursor.cut:
        return None
    cursor.take(32)  # random
    cursor.take(cursor.number(1))  # session id
    ciphers = cursor.take(cursor.number(2))
    cursor.take(cursor.number(1))  # compression methods
    numbers = [number for number in _numbers(ciphers) if number not in _SIGNALLING and not _is_grease(number)]
    found = ClientHello(ciphers=tuple(_cipher(number) for number in numbers[:_SHOWN_CIPHERS]))
    whole = _read_extensions(_Cursor(cursor.take(cursor.number(2))), found) and complete(octets)
    if not found.versions and (whole or highest < 0x0303):
        # A TLS 1.3 client puts 1.2 in this field and its real versions in an extension. If the extensions were cut off,
        # the missing part may contain those versions, so 1.2 would be misleading.
        found.versions = (_version(highest),)
    return found


def complete(octets: bytes) -> bool:
    """Whether the first message is complete, or cannot be a TLS handshake message at all."""
    if not octets:
        return False
    if octets[0] != HANDSHAKE:
        return True
    message = _message(octets)
    return len(message) >= 4 and len(message) >= 4 + int.from_bytes(message[1:4])


@dataclass(slots=True)
class _Cursor:
    """Reads a block from its start. Beyond the end, numbers are 0 and byte strings are empty."""

    block: bytes
    at: int = field(default=0)

    def take(self, count: int) -> bytes:
        found = self.block[self.at : self.at + count]
        self.at += count
        return found

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    @property
    def cut(self) -> bool:
        """Whether a read went beyond the end of the block."""
        return self.at > len(self.block)


def _message(octets: bytes) -> bytes:
    """The handshake message without record headers (a message may be split over several records)."""
    message = b""
    while len(octets) > _RECORD_HEADER and octets[0] == HANDSHAKE:
        end = _RECORD_HEADER + int.from_bytes(octets[3:_RECORD_HEADER])
        message += octets[_RECORD_HEADER:end]
        octets = octets[end:]
    return message


def _read_extensions(cursor: _Cursor, found: ClientHello) -> bool:
    """Store versions and server name from the extensions in `found`. Returns whether the extensions were complete."""
    while cursor.at < len(cursor.block):
        kind, body = cursor.number(2), cursor.take(cursor.number(2))
        if kind == _SUPPORTED_VERSIONS:
            numbers = dict.fromkeys(_numbers(body[1:]))
            found.versions = tuple(_VERSIONS[number] for number in numbers if number in _VERSIONS)
        elif kind == _SERVER_NAME:
            found.name = body[5 : 5 + _LONGEST_NAME].decode("ascii", "replace")
    return not cursor.cut


def _numbers(block: bytes) -> list[int]:
    return [int.from_bytes(pair) for pair in _pairs(block)]


def _pairs(block: bytes) -> Iterator[bytes]:
    return (block[at : at + 2] for at in range(0, len(block) - 1, 2))


def _is_grease(number: int) -> bool:
    """Whether this is a value such as 0x1a1a, which clients send only to be ignored (RFC 8701)."""
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF


def _version(number: int) -> str:
    return _VERSIONS.get(number, f"0x{number:04x}")


def _cipher(number: int) -> str:
    return _cipher_names().get(number, f"0x{number:04x}")


@cache
def _cipher_names() -> dict[int, str]:
    """The names of all ciphers that OpenSSL knows, by their numbers on the wire."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Includes the weak ciphers, because old clients offer them. This context is not used for connections.
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    return {int(cipher["id"]) & 0xFFFF: str(cipher["name"]) for cipher in context.get_ciphers()}
