"""One connection of the scripted receiver: the commands of RFC 5321 in their usual order, answers by script."""

import asyncio
import base64
import hashlib
import hmac
import inspect
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.answers import Answer, Close, Default, Delay, Endless, Hang, Trickle
from tests.support.receiver_words import encode, parse

if TYPE_CHECKING:
    from tests.support.receiver import Receiver

_END = b"\r\n.\r\n"
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_WHOLE = re.compile(rb"^(\d{3})(?: [^\n]*)?\r?\n", re.MULTILINE)


@dataclass(slots=True)
class Recipient:
    """One accepted RCPT."""

    address: str
    params: dict[str, str | None]


@dataclass(slots=True)
class Message:
    """One transaction whose content arrived whole."""

    sender: str
    params: dict[str, str | None]
    """MAIL's parameters, names in upper case."""
    recipients: list[Recipient]
    """Accepted ones only."""
    raw: bytes
    """Octets after DATA up to and with the final CRLF.CRLF, as they came."""
    content: bytes
    """The message: dots unstuffed, the end removed."""
    session: "Session"
    at: float
    """When it was whole, seconds since the epoch."""
    reply: str | None = None
    """What was answered, if anything was."""

    @property
    def tls(self) -> str | None:
        """Protocol version, or None in plaintext."""
        return self.session.tls


@dataclass(slots=True, eq=False)
class Session:
    """What one connection said and was told."""

    receiver: "Receiver"
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    opened_at: float = field(default_factory=time.time)
    closed_at: float | None = None
    peer: tuple[str, int] = ("", 0)
    helo: str = ""
    extended: bool = False
    tls: str | None = None
    user: str | None = None
    commands: list[str] = field(default_factory=list)
    """Command lines as they came, in order (without DATA's content; AUTH's secrets are there)."""
    refused: list[str] = field(default_factory=list)
    """Recipients refused, in order."""
    sender: str | None = None
    params: dict[str, str | None] = field(default_factory=dict)
    recipients: list[Recipient] = field(default_factory=list)
    tried: int = 0
    """Recipients tried in this transaction."""
    _in: bytearray = field(default_factory=bytearray)
    _out: bytearray = field(default_factory=bytearray)
    _closing: bool = False
    _before: Callable[[str], None] | None = None
    """Called with a reply's code before its (last) octet is written: so that who reads the reply finds it noted."""

    async def run(self) -> None:
        """Serve the connection to its end."""
        self.peer = self.writer.get_extra_info("peername")[:2]
        self._note_tls()
        await self.say(self.receiver.scripts.answer("greeting"), f"220 {self.receiver.hostname} ESMTP")
        while not self._closing:
            line = await self._line()
            if line is None:
                return
            self.commands.append(line)
            self.receiver.changed()
            verb, _, argument = line.partition(" ")
            handler = getattr(self, f"_{verb.lower()}", None)
            if handler is None or not verb.isalpha():
                await self.say(None, "500 5.5.1 Command unrecognized")
            else:
                await handler(argument)

    # -- answers ------------------------------------------------------------------------------------------------

    async def say(self, answer: Answer, default: str, argument: str = "") -> str:
        """Answer by script; returns the reply's first three characters ("" when none was a reply)."""
        while callable(answer):
            answer = answer(self, argument)
            if inspect.isawaitable(answer):
                answer = await answer
        match answer:
            case None | Default():
                answer = default
            case Close(first, reset):
                code = await self.say(first, "", argument) if first is not None else ""
                await self._flush()
                self._closing = True
                if reset:
                    self.writer.transport.abort()
                else:
                    self.writer.close()
                return code
            case Hang(first):
                code = await self.say(first, "", argument) if first is not None else ""
                await self._flush()
                self._closing = True
                while await self.reader.read(1 << 16):
                    pass
                return code
            case Delay(until, later):
                await self._flush()
                await (until.wait() if isinstance(until, asyncio.Event) else asyncio.sleep(until))
                return await self.say(later, default, argument)
            case Trickle(slowly, pause):
                await self._flush()
                octets = encode(default if slowly is None else slowly)
                for n in range(len(octets)):
                    if n == len(octets) - 1:
                        self._note(octets)
                    self.writer.write(octets[n : n + 1])
                    await self.writer.drain()
                    await asyncio.sleep(pause)
                return octets[:3].decode()
            case Endless(octets):
                await self._flush()
                while True:
                    self.writer.write(octets * (1 + 4096 // len(octets)))
                    await self.writer.drain()
        octets = encode(answer)
        self._note(octets)
        self._out += octets
        if not self._has_line() or self.receiver.discards:
            await self._flush()
        if self.receiver.discards:
            self._in.clear()
        elif self._in and not self.receiver.features.pipelining and not isinstance(answer, bytes):
            self.receiver.problems.append(f"octets ahead of a reply without PIPELINING: {bytes(self._in[:80])!r}")
        code = octets[:3].decode("ascii", "replace")
        if code == "421":
            return await self.say(Close(), "") or code
        return code

    def _note(self, octets: bytes) -> None:
        if self._before is not None:
            whole = _WHOLE.search(octets)
            self._before(whole[1].decode() if whole else "")
            self._before = None

    async def _flush(self) -> None:
        if self._out:
            self.writer.write(bytes(self._out))
            self._out.clear()
            await self.writer.drain()

    # -- input --------------------------------------------------------------------------------------------------

    def _has_line(self) -> bool:
        return b"\n" in self._in

    async def _more(self) -> bool:
        await self._flush()
        octets = await self.reader.read(1 << 18)
        self._in += octets
        return bool(octets)

    async def _line(self) -> str | None:
        while (end := self._in.find(b"\n")) < 0:
            if len(self._in) > 1 << 16:
                self.receiver.problems.append("a command line of more than 64 KiB")
                return None
            if not await self._more():
                if self._in:
                    self.receiver.problems.append(f"an unfinished command: {bytes(self._in[:80])!r}")
                return None
        line = bytes(self._in[: end + 1])
        del self._in[: end + 1]
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            self.receiver.problems.append(f"a bare CR or LF in a command: {line!r}")
        return line.decode("utf-8", "backslashreplace").rstrip("\r\n")

    async def _content(self) -> bytes | None:
        """The octets up to and with the end (RFC 5321 §4.5.2); the CRLF before the dot may be DATA's own."""
        while not self._in.startswith(b".\r\n"[: len(self._in)]) or len(self._in) < len(b".\r\n"):
            if len(self._in) >= len(b".\r\n"):
                break
            if not await self._more():
                return None
        if self._in.startswith(b".\r\n"):
            del self._in[:3]
            return b".\r\n"
        seen = 0
        while (end := self._in.find(_END, max(0, seen - 4))) < 0:
            seen = len(self._in)
            if not await self._more():
                return None
        raw = bytes(self._in[: end + 5])
        del self._in[: end + 5]
        if (bare := _BARE.search(raw)) is not None:
            self.receiver.problems.append(f"a bare CR or LF in content: {raw[max(0, bare.start() - 20) :][:40]!r}")
        return raw

    # -- commands -----------------------------------------------------------------------------------------------

    async def _ehlo(self, argument: str) -> None:
        self._forget()
        code = await self.say(self.receiver.scripts.answer("ehlo"), "\n".join(self._capabilities()), argument)
        if code == "250":
            self.helo, self.extended = argument, True

    async def _helo(self, argument: str) -> None:
        self._forget()
        code = await self.say(self.receiver.scripts.answer("helo"), f"250 {self.receiver.hostname}", argument)
        if code == "250":
            self.helo, self.extended = argument, False

    def _capabilities(self) -> list[str]:
        have = self.receiver.features
        lines = [f"250 {self.receiver.hostname} at your service"]
        lines += ["PIPELINING"] if have.pipelining else []
        lines += ["8BITMIME"] if have.eightbit else []
        lines += ["SMTPUTF8"] if have.smtputf8 else []
        lines += ["ENHANCEDSTATUSCODES"] if have.enhanced else []
        lines += ["DSN"] if have.dsn else []
        lines += [f"SIZE {have.size}"] if have.size is not None else []
        lines += ["STARTTLS"] if have.starttls and not self.tls else []
        lines += [f"AUTH {' '.join(have.auth)}"] if have.users else []
        return [*lines, *have.extra]

    async def _starttls(self, _: str) -> None:
        context = self.receiver.features.starttls
        if context is None or self.tls:
            await self.say(None, "503 5.5.1 Not offered")
            return
        code = await self.say(self.receiver.scripts.answer("starttls"), "220 2.0.0 Ready to start TLS")
        await self._flush()
        if code != "220" or self._closing:
            return
        if self._in:
            self.receiver.problems.append(f"octets between STARTTLS and the handshake: {bytes(self._in[:80])!r}")
            self._in.clear()
        await self.writer.start_tls(context, ssl_handshake_timeout=30)
        self._forget()
        self.helo, self.user = "", None
        self._note_tls()

    def _note_tls(self) -> None:
        ssl_object = self.writer.get_extra_info("ssl_object")
        self.tls = ssl_object.version() if ssl_object is not None else None

    async def _auth(self, argument: str) -> None:
        answer = self.receiver.scripts.answer("auth")
        if not isinstance(answer, Default | None):
            await self.say(answer, "", argument)
            return
        mechanism, _, initial = argument.partition(" ")
        proof = await self._proof(mechanism.upper(), initial)
        if proof is None:
            await self.say(None, "504 5.5.4 Unknown mechanism")
        elif proof in self.receiver.features.users:
            self.user = proof
            await self.say(None, "235 2.7.0 Authentication succeeded")
        else:
            await self.say(None, "535 5.7.8 Authentication credentials invalid")

    async def _proof(self, mechanism: str, initial: str) -> str | None:
        """The user who proved themselves; "" when they did not, None for an unknown mechanism."""
        users = self.receiver.features.users
        if mechanism not in self.receiver.features.auth:
            return None
        if mechanism == "PLAIN":
            given = initial or await self._challenge("")
            _, user, password = base64.b64decode(given).decode().split("\0")
        elif mechanism == "LOGIN":
            user = base64.b64decode(initial or await self._challenge("VXNlcm5hbWU6")).decode()
            password = base64.b64decode(await self._challenge("UGFzc3dvcmQ6")).decode()
        else:
            challenge = b"<1.2@mx.test>"
            given = base64.b64decode(await self._challenge(base64.b64encode(challenge).decode())).decode()
            user, _, digest = given.rpartition(" ")
            right = hmac.new(users.get(user, "").encode(), challenge, hashlib.md5).hexdigest()
            return user if user in users and digest == right else ""
        return user if users.get(user) == password else ""

    async def _challenge(self, text: str) -> str:
        await self.say(None, f"334 {text}")
        line = await self._line() or ""
        self.commands.append(line)
        return line

    async def _mail(self, argument: str) -> None:
        parsed = parse(argument)
        size = self.receiver.features.size
        if parsed is None:
            await self.say(None, "501 5.5.4 Syntax: MAIL FROM:<address>")
            return
        address, params = parsed
        default = "250 2.1.0 Ok"
        if not self.helo:
            default = "503 5.5.1 EHLO first"
        elif self.sender is not None:
            default = "503 5.5.1 Nested MAIL"
        elif self.receiver.features.auth_required and self.user is None:
            default = "530 5.7.0 Authentication required"
        elif size and int(params.get("SIZE") or 0) > size:
            default = "552 5.3.4 Message too large"
        code = await self.say(self.receiver.scripts.answer("mail", address), default, address)
        if code.startswith("2"):
            self._forget()
            self.sender, self.params = address, params

    async def _rcpt(self, argument: str) -> None:
        parsed = parse(argument)
        if parsed is None or self.sender is None:
            await self.say(None, "503 5.5.1 MAIL first" if parsed else "501 5.5.4 Syntax: RCPT TO:<address>")
            return
        address, params = parsed
        self.tried += 1
        code = await self.say(self.receiver.scripts.answer("rcpt", address), "250 2.1.5 Ok", address)
        if code.startswith("2"):
            self.recipients.append(Recipient(address, params))
        else:
            self.refused.append(address)

    async def _data(self, _: str) -> None:
        default = "354 End data with <CR><LF>.<CR><LF>"
        if self.sender is None:
            default = "503 5.5.1 MAIL first"
        elif not self.recipients:
            default = "554 5.5.1 No valid recipients"
        code = await self.say(self.receiver.scripts.answer("data"), default)
        await self._flush()
        if code != "354" or self._closing:
            return
        raw = await self._content()
        if raw is None:
            return
        content = (b"\r\n" + raw[:-3]).replace(b"\r\n.", b"\r\n")[2:]
        message = Message(self.sender or "", self.params, self.recipients, raw, content, self, time.time())
        count = len(self.receiver.messages) + len(self.receiver.refused) + 1
        script = self.receiver.scripts.answer("content", message.recipients[0].address if message.recipients else "")
        self._forget()

        def answered(code: str) -> None:
            message.reply = code or None
            self.receiver.took(message, taken=code.startswith("2"))

        self._before = answered
        try:
            await self.say(script, f"250 2.0.0 Ok: queued as R{count}")
        finally:
            self._note(b"")

    async def _rset(self, _: str) -> None:
        self._forget()
        await self.say(self.receiver.scripts.answer("rset"), "250 2.0.0 Ok")

    async def _noop(self, _: str) -> None:
        await self.say(None, "250 2.0.0 Ok")

    async def _quit(self, _: str) -> None:
        await self.say(Close(self.receiver.scripts.answer("quit") or "221 2.0.0 Bye"), "")

    def _forget(self) -> None:
        self.sender, self.params, self.recipients, self.tried = None, {}, [], 0
