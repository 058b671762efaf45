"""A blocking SMTP client whose TLS is done by hand, so that records and plaintext can follow each other in any order.

For what no library lets one send: plaintext behind a close_notify, half a record, octets that are no record. Runs in a
thread (`asyncio.to_thread`).
"""

import socket
import ssl

from tests.support.certificates import client_context
from tests.support.raw_smtp import HANG


class BareTls:
    """One connection that has read the greeting."""

    def __init__(self, port: int, source: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), HANG, (source, 0))
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = client_context().wrap_bio(self._in, self._out, server_hostname="mx.test")
        self._plain = self.sock.makefile("rb", buffering=0)
        assert self._plain.readline().startswith(b"220 ")

    def starttls(self) -> None:
        """EHLO, STARTTLS, the handshake."""
        self.plain(b"EHLO c.test\r\n")
        while self._plain.readline()[3:4] == b"-":
            pass
        self.plain(b"STARTTLS\r\n")
        assert self._plain.readline().startswith(b"220 ")
        while not self._shaken():
            self._more()

    def plain(self, octets: bytes) -> None:
        """Send as it is."""
        self.sock.sendall(octets)

    def send(self, octets: bytes) -> None:
        """Send through TLS."""
        self._tls.write(octets)
        self._flush()

    def record(self, octets: bytes) -> bytes:
        """The record that would carry `octets`; not sent."""
        self._tls.write(octets)
        return self._out.read()

    def code(self, line: str) -> int:
        """Say a line through TLS; the code of its reply."""
        self.send(line.encode() + b"\r\n")
        found = b""
        while not (found.endswith(b"\r\n") and found.splitlines()[-1][3:4] != b"-"):
            try:
                found += self._tls.read(1 << 16)
            except ssl.SSLWantReadError:
                self._more()
        return int(found.splitlines()[-1][:3])

    def end(self) -> None:
        """Send close_notify; the connection stays open."""
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            self._flush()

    def rest(self) -> bytes:
        """What still comes until the server closes, as it is on the wire."""
        found = b""
        try:
            while block := self.sock.recv(1 << 16):
                found += block
        except ConnectionError:
            return found
        return found

    def close(self) -> None:
        """Close."""
        self._plain.close()
        self.sock.close()

    def _shaken(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self._flush()
        return True

    def _flush(self) -> None:
        self.sock.sendall(self._out.read())

    def _more(self) -> None:
        block = self.sock.recv(1 << 16)
        if not block:
            raise ConnectionError("the server closed")
        self._in.write(block)


def no_plaintext(octets: bytes) -> bool:
    """Whether octets are whole TLS records (alerts, handshake, data), so that no reply went out in the clear."""
    while octets:
        if len(octets) < 5 or octets[0] not in {0x14, 0x15, 0x16, 0x17} or octets[1] != 3:
            return False
        octets = octets[5 + int.from_bytes(octets[3:5], "big") :]
    return True
