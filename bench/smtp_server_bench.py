"""CPU per accepted message of the server's session, beside stock aiosmtpd: alternating runs, one loopback client.

    python bench/smtp_server_bench.py [--messages 3000] [--runs 5] [--size 4096] [--loop uvloop]

The server is a process of its own whose handler answers at once, so that only protocol is measured: parsing, checks,
collecting the message. `kept`: one connection; `pipelined`: MAIL, RCPT and DATA in one segment; `single`: a connection
a message. Prints the medians of the server's user+system microseconds per message.
"""

# ruff: noqa: D102, ARG002 - the handlers implement what others document

import argparse
import asyncio
import multiprocessing
import multiprocessing.connection
import os
import socket
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

MODES = ("kept", "pipelined", "single")


class Relay:
    """A handler that takes everything at once."""

    def __init__(self) -> None:
        from relay.smtp.reply import Reply

        self.reply = Reply(250, "2.0.0", "Queued as 0123456789abcdefghijklmnop")

    def connected(self, peer: object) -> None: ...

    def disconnected(self, peer: object) -> None: ...

    def mail(self, peer: object, transaction: object) -> None: ...

    def rcpt(self, peer: object, transaction: object, recipient: object) -> None: ...

    def refused(self, peer: object, command: str, reply: object) -> None:
        print("refused", command, reply, file=sys.stderr)

    def incoming(self, peer: object, transaction: object) -> object:
        from relay.message.incoming import Incoming

        return Incoming(lambda: open(os.devnull, "w+b"))  # noqa: PTH123 - closed with the message

    def accept(self, peer: object, transaction: object, content: object) -> asyncio.Future:
        future = asyncio.get_running_loop().create_future()
        future.set_result(self.reply)
        return future


class Stock:
    """The same for aiosmtpd."""

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:  # noqa: N802 - its name
        return "250 OK"


async def _serve(kind: str, sock: socket.socket, control: multiprocessing.connection.Connection) -> None:
    loop = asyncio.get_running_loop()
    if kind == "relay":
        from relay.smtp.server.context import ServerContext
        from relay.smtp.server.listen import serve
        from relay_config.schema import Limits, Listener

        listener = Listener(address="127.0.0.1:0", tls="none", auth="off")
        await serve(sock, ServerContext("mx.test", Relay(), listener, limits=Limits()))
    else:
        from aiosmtpd.smtp import SMTP

        await loop.create_server(lambda: SMTP(Stock(), hostname="mx.test", loop=loop), sock=sock)
    while True:
        await loop.run_in_executor(None, control.recv)
        control.send(time.process_time())


def _process(kind: str, loop: str, sock: socket.socket, control: multiprocessing.connection.Connection) -> None:
    if loop == "uvloop":
        import uvloop

        uvloop.run(_serve(kind, sock, control))
    else:
        asyncio.run(_serve(kind, sock, control))


class Client:
    """Blocking, and no cleverer than needed."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.expect(1)
        self.sock.sendall(b"EHLO client.test\r\n")
        self.expect(1)

    def expect(self, replies: int) -> None:
        buffer = b""
        while True:
            buffer += self.sock.recv(65536)
            lines = buffer.split(b"\r\n")
            if lines[-1] == b"" and sum(line[3:4] == b" " for line in lines[:-1]) >= replies:
                assert all(line[:1] in b"23" for line in lines[:-1]), buffer
                return

    def send(self, message: bytes, *, pipelined: bool) -> None:
        envelope = (b"MAIL FROM:<sender@client.test>\r\n", b"RCPT TO:<recipient@local.test>\r\n", b"DATA\r\n")
        if pipelined:
            self.sock.sendall(b"".join(envelope))
            self.expect(3)
        else:
            for line in envelope:
                self.sock.sendall(line)
                self.expect(1)
        self.sock.sendall(message)
        self.expect(1)

    def quit(self) -> None:
        self.sock.sendall(b"QUIT\r\n")
        self.expect(1)
        self.sock.close()


def _run(port: int, mode: str, count: int, message: bytes) -> None:
    if mode == "single":
        for _ in range(count):
            client = Client(port)
            client.send(message, pipelined=True)
            client.quit()
        return
    client = Client(port)
    for _ in range(count):
        client.send(message, pipelined=mode == "pipelined")
    client.quit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    options = parser.parse_args()
    line = b"x" * 76 + b"\r\n"
    header = b"From: <sender@client.test>\r\nTo: <recipient@local.test>\r\nSubject: bench\r\n\r\n"
    message = header + line * max(1, (options.size - len(header)) // len(line)) + b".\r\n"
    servers = {}
    for kind in ("relay", "aiosmtpd"):
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.listen(128)
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.Process(target=_process, args=(kind, options.loop, sock, theirs), daemon=True)
        process.start()
        servers[kind] = (process, ours, sock.getsockname()[1])
    spent: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.runs):
        for mode in MODES:
            for kind, (_, control, port) in servers.items():
                count = options.messages if mode != "single" else options.messages // 4
                control.send(None)
                before = control.recv()
                _run(port, mode, count, message)
                control.send(None)
                spent.setdefault((mode, kind), []).append((control.recv() - before) / count * 1e6)
    print(f"{len(message)} octets, {options.loop}, {options.runs} runs: CPU microseconds per message of the server")
    print(f"{'':12}{'relay':>10}{'aiosmtpd':>10}{'ratio':>8}")
    for mode in MODES:
        ours_, stock = (statistics.median(spent[mode, kind]) for kind in ("relay", "aiosmtpd"))
        print(f"{mode:12}{ours_:10.1f}{stock:10.1f}{stock / ours_:8.1f}")
    for process, _, _ in servers.values():
        process.kill()


if __name__ == "__main__":
    main()
