"""A load generator that can do STARTTLS and AUTH, used alike against both servers: what smtp-source cannot.

It is lean, so that it takes little of the CPU the server could have: one process, no event loop library, a
poll and a state number a connection. It waits for each reply, as smtp-source does, and ends with a complaint at the
first unexpected one.

    python -m bench.client PORT --count 1000 [--sessions 20] [--size 4096] [--kept] [--user NAME --password-file FILE]
"""

import argparse
import base64
import select
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from bench.addresses import RECIPIENT, SENDER

_PATIENCE = 60
"""Seconds without any reply after which the server counts as stuck."""
_HEADER = """\
From: <{sender}>\r
To: <{recipient}>\r
Date: Mon, 1 Jan 2024 00:00:00 +0000\r
Message-ID: <%08x@client.example.com>\r
\r
"""
_LINE = b"X" * 78 + b"\r\n"


class Work:
    """What all connections share: how many messages are still to be sent, and the octets of one."""

    def __init__(self, count: int, size: int, credential: bytes, *, kept: bool, recipients: Sequence[str]) -> None:
        self.left = count
        self.begun = 0
        self.turn = 0
        self.done = 0
        self.kept = kept
        self.credential = credential
        """The argument of AUTH PLAIN; empty: neither STARTTLS nor AUTH."""
        self.recipients = [address.encode() for address in recipients]
        self.header = _HEADER.format(sender=SENDER, recipient=recipients[0]).encode()
        body = (_LINE * (size // len(_LINE) + 1))[: max(0, size - 2)]
        self.body = body + b"\r\n.\r\n"
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # The certificate is the benchmark's own; checking it would cost both servers nothing.
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE

    def next_recipient(self) -> bytes:
        """Recipients in turn."""
        # A counter of its own: `left` has moved on by as many messages as other sessions began meanwhile.
        self.turn += 1
        return self.recipients[self.turn % len(self.recipients)]


class Connection:
    """One session. `step` is called with each whole reply and says what to send."""

    def __init__(self, work: Work, port: int) -> None:
        self.work = work
        self.port = port
        self.sock: socket.socket | ssl.SSLSocket = self._connect()
        self.received = b""
        self.pending = b""
        self.stage = "greeting"
        self.handshaking = False

    def _connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        return sock

    def ready(self) -> int | None:
        """Go on as far as possible. Returns what to wait for, or None when this session has ended."""
        try:
            if self.handshaking:
                self._handshake()
            if self.pending:
                self._flush()
            while True:
                octets = self.sock.recv(4096)
                if not octets:
                    raise ConnectionError("the server closed the connection")
                self.received += octets
                while self.received.endswith(b"\r\n") and _complete(self.received):
                    reply, self.received = self.received, b""
                    if not self._replied(reply):
                        return None
                    self._flush()
        except (BlockingIOError, ssl.SSLWantReadError):
            return select.EPOLLIN | (select.EPOLLOUT if self.pending and not self.handshaking else 0)
        except ssl.SSLWantWriteError:
            return select.EPOLLIN | select.EPOLLOUT

    def _flush(self) -> None:
        while self.pending:
            sent = self.sock.send(self.pending)
            self.pending = self.pending[sent:]

    def _handshake(self) -> None:
        assert isinstance(self.sock, ssl.SSLSocket)
        self.sock.do_handshake()
        self.handshaking = False

    def _replied(self, reply: bytes) -> bool:
        """Take a reply and prepare what comes next. False: the session has ended."""
        if reply[:1] not in (b"2", b"3"):
            raise ConnectionError(f"after {self.stage}: {reply.decode(errors='replace').strip()}")
        if self.stage == "quit":
            return False
        self._AFTER[self.stage](self)
        return True

    def _greeting(self) -> None:
        self._say("ehlo", b"EHLO client.example.com\r\n")

    def _ehlo(self) -> None:
        if self.work.credential:
            self._say("starttls", b"STARTTLS\r\n")
        else:
            self._mail_or_quit()

    def _starttls(self) -> None:
        self.sock = self.work.context.wrap_socket(self.sock, do_handshake_on_connect=False)
        self.handshaking = True
        self._say("ehlo again", b"EHLO client.example.com\r\n")
        self._handshake()

    def _ehlo_again(self) -> None:
        self._say("auth", b"AUTH PLAIN " + self.work.credential + b"\r\n")

    def _mail_or_quit(self) -> None:
        if self.work.left:
            self.work.left -= 1
            self._say("mail", b"MAIL FROM:<" + SENDER.encode() + b">\r\n")
        else:
            self._say("quit", b"QUIT\r\n")

    def _mail(self) -> None:
        self._say("rcpt", b"RCPT TO:<" + self.work.next_recipient() + b">\r\n")

    def _rcpt(self) -> None:
        self._say("data", b"DATA\r\n")

    def _data(self) -> None:
        self.work.begun += 1
        self._say("content", self.work.header % self.work.begun + self.work.body)

    def _content(self) -> None:
        self.work.done += 1
        if self.work.kept:
            self._mail_or_quit()
        else:
            self._say("quit", b"QUIT\r\n")

    _AFTER: ClassVar[dict[str, Callable[["Connection"], None]]] = {
        "greeting": _greeting,
        "ehlo": _ehlo,
        "starttls": _starttls,
        "ehlo again": _ehlo_again,
        "auth": _mail_or_quit,
        "mail": _mail,
        "rcpt": _rcpt,
        "data": _data,
        "content": _content,
    }
    """What follows the reply to each stage."""

    def _say(self, stage: str, octets: bytes) -> None:
        self.stage = stage
        self.pending = octets


_BEFORE_MAIL = frozenset({"greeting", "ehlo", "starttls", "ehlo again", "auth"})
"""Stages of connections that will take one more message."""


def _complete(received: bytes) -> bool:
    """Whether the octets end with a reply's last line."""
    last = received[received.rfind(b"\n", 0, -2) + 1 :]
    return last[3:4] == b" "


def submit(work: Work, port: int, sessions: int) -> None:
    """Submit all, over so many connections at once."""
    poll = select.epoll()
    connections: dict[int, Connection] = {}

    def start() -> None:
        connection = Connection(work, port)
        connections[connection.sock.fileno()] = connection
        poll.register(connection.sock.fileno(), select.EPOLLIN)

    for _ in range(min(sessions, work.left)):
        start()
    waits: dict[int, int] = {}
    while connections:
        events = poll.poll(_PATIENCE)
        if not events:
            raise ConnectionError(f"no reply within {_PATIENCE} s")
        for number, _ in events:
            connection = connections[number]
            wanted = connection.ready()
            if wanted is None:
                poll.unregister(number)
                del connections[number]
                waits.pop(number, None)
                connection.sock.close()
                if not work.kept and work.left > sum(one.stage in _BEFORE_MAIL for one in connections.values()):
                    start()
            elif wanted != waits.get(number, select.EPOLLIN):
                waits[number] = wanted
                poll.modify(number, wanted)


def main() -> int:
    """Returns the exit status; what went wrong is on standard error."""
    parser = argparse.ArgumentParser(prog="python -m bench.client")
    parser.add_argument("port", type=int)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--kept", action="store_true")
    parser.add_argument("--user")
    parser.add_argument("--domains", type=Path, help="a file of recipients' domains, used in turn")
    parser.add_argument("--password-file", type=Path)
    options = parser.parse_args()
    credential = b""
    if options.user:
        password = options.password_file.read_text()
        credential = base64.b64encode(f"\0{options.user}\0{password}".encode())
    recipients = [f"recipient@{domain}" for domain in options.domains.read_text().split()] if options.domains else []
    work = Work(options.count, options.size, credential, kept=options.kept, recipients=recipients or [RECIPIENT])
    # From here on time counts.
    print("ready", flush=True)
    try:
        submit(work, options.port, options.sessions)
    except (OSError, ssl.SSLError) as error:
        print(error, file=sys.stderr)
        return 1
    if work.done != options.count:
        print(f"{work.done} of {options.count} messages were taken", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
