"""A scripted SMTP receiver on loopback: correct and capable unless told otherwise, and it remembers everything.

    async with Receiver(rcpt={"x@y.test": ["450 4.2.0 wait", "250 2.1.5 ok"]}) as receiver:
        ...                                   # send to receiver.address, receiver.port
        await receiver.wait(1)
        assert receiver.messages[0].content == b"..."

Every stage takes an `Answer`, see `tests.support.answers`: a reply, octets, an action (`Close`, `Hang`, `Delay`,
`Trickle`, `Endless`), a sequence of answers (the last repeats), a callable, or None for the default. `mail`, `rcpt`
and `content` also take tables by address, with "*" for all others. It runs on asyncio and uvloop alike.
"""

import asyncio
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self

from tests.support.answers import Answer, Scripts
from tests.support.certificates import server_context
from tests.support.ports import free_port
from tests.support.receiver_session import Message, Session


@dataclass(slots=True)
class Features:
    """What EHLO offers."""

    pipelining: bool = True
    eightbit: bool = True
    smtputf8: bool = True
    enhanced: bool = True
    dsn: bool = True
    size: int | None = 100 * 1024 * 1024
    starttls: ssl.SSLContext | None = None
    users: Mapping[str, str] = field(default_factory=dict)
    """Names and passwords; AUTH is offered when there are any."""
    auth: tuple[str, ...] = ("PLAIN", "LOGIN")
    auth_required: bool = False
    extra: tuple[str, ...] = ()
    """Further EHLO lines."""


class Receiver:
    """The receiver. `port` 0 takes a free one, known once it runs."""

    def __init__(
        self,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        hostname: str = "mx.test",
        pipelining: bool = True,
        eightbit: bool = True,
        smtputf8: bool = True,
        enhanced: bool = True,
        dsn: bool = True,
        size: int | None = 100 * 1024 * 1024,
        starttls: ssl.SSLContext | bool = False,
        implicit_tls: ssl.SSLContext | bool = False,
        users: Mapping[str, str] | None = None,
        auth: tuple[str, ...] = ("PLAIN", "LOGIN"),
        auth_required: bool = False,
        extra: tuple[str, ...] = (),
        helo_only: bool = False,
        discards: bool = False,
        greeting: Answer = None,
        ehlo: Answer = None,
        helo: Answer = None,
        tls: Answer = None,
        login: Answer = None,
        mail: Answer | dict[str, Answer] = None,
        rcpt: Answer | dict[str, Answer] = None,
        data: Answer = None,
        content: Answer | dict[str, Answer] = None,
        rset: Answer = None,
        quit: Answer = None,  # noqa: A002 - stages are named like their commands
        backlog: int = 1000,
    ) -> None:
        self.address = address
        self.port = port
        self.hostname = hostname
        self.features = Features(
            pipelining=pipelining,
            eightbit=eightbit,
            smtputf8=smtputf8,
            enhanced=enhanced,
            dsn=dsn,
            size=size,
            starttls=server_context() if starttls is True else (starttls or None),
            users=users or {},
            auth=auth,
            auth_required=auth_required,
            extra=extra,
        )
        self.discards = discards
        """Offers PIPELINING but throws away what came with a command (offered and not kept)."""
        if helo_only:
            ehlo = "500 5.5.1 Command unrecognized"
        self.scripts = Scripts(
            greeting=greeting,
            ehlo=ehlo,
            helo=helo,
            starttls=tls,
            auth=login,
            mail=mail,
            rcpt=rcpt,
            data=data,
            content=content,
            rset=rset,
            quit=quit,
        )
        self._implicit = server_context() if implicit_tls is True else (implicit_tls or None)
        self._backlog = backlog
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self.sessions: list[Session] = []
        """Every connection, in order."""
        self.messages: list[Message] = []
        """Messages whose content was answered 2xx: those this receiver is responsible for."""
        self.refused: list[Message] = []
        """Messages whose content arrived whole, but got another answer or none."""
        self.open = 0
        """Connections now."""
        self.peak = 0
        """Most connections at one time."""
        self.problems: list[str] = []
        """Breaches of protocol by clients: bare CR or LF, commands ahead of replies without PIPELINING."""
        self.faults: list[BaseException] = []
        """Exceptions in the receiver itself; raised when it is left."""

    # -- life ---------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        if self.faults:
            raise self.faults[0]

    async def start(self) -> None:
        """Listen."""
        self._changed = asyncio.Event()
        self.port = self.port or free_port()
        self._server = await asyncio.start_server(
            self._connected, self.address, self.port, ssl=self._implicit, backlog=self._backlog, limit=1 << 18
        )

    async def stop(self) -> None:
        """Stop listening and end all sessions, at once. It may be started again, on the same port."""
        if self._server is not None:
            self._server.close()
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    @contextmanager
    def in_thread(self) -> Iterator[Self]:
        """Run on an own loop in a thread: for tests that block (subprocesses, smtplib, the CLI)."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="receiver")
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self.start(), loop).result(10)
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self.stop(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
        if self.faults:
            raise self.faults[0]

    # -- what was seen ------------------------------------------------------------------------------------------

    @property
    def transactions(self) -> list[Message]:
        """All messages whose content arrived, taken or not, in order."""
        return sorted(self.messages + self.refused, key=lambda message: message.at)

    def recipients(self) -> list[str]:
        """The addresses delivered to, one for each (message, recipient), in order."""
        return [rcpt.address for message in self.messages for rcpt in message.recipients]

    async def wait(self, count: int = 1, seconds: float = 30.0) -> list[Message]:
        """Wait until `count` messages were taken."""
        await self.until(lambda: len(self.messages) >= count, seconds)
        return self.messages

    async def until(self, condition: Callable[[], Any], seconds: float = 30.0) -> None:
        """Wait until something is so; looked at whenever a session begins, ends, or a message arrives."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(
                f"not so within {seconds} s: {len(self.sessions)} sessions, {len(self.messages)} messages taken, "
                f"{len(self.refused)} refused"
            ) from None

    def peak_rate(self, seconds: float) -> int:
        """Most messages taken within any span of so many seconds."""
        return _peak([message.at for message in self.messages], seconds)

    def peak_connection_rate(self, seconds: float) -> int:
        """Most connections opened within any span of so many seconds."""
        return _peak([session.opened_at for session in self.sessions], seconds)

    # -- for sessions -------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Something happened that `until` may wait for."""
        self._changed.set()

    def took(self, message: Message, *, taken: bool) -> None:
        """A message's content was answered."""
        (self.messages if taken else self.refused).append(message)
        self.changed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        session = Session(self, reader, writer)
        self.sessions.append(session)
        self.open += 1
        self.peak = max(self.peak, self.open)
        self.changed()
        try:
            await session.run()
        except (ConnectionError, ssl.SSLError, asyncio.CancelledError, TimeoutError):
            pass  # the client went, or the test is over
        except Exception as error:  # noqa: BLE001 - kept, and raised when the receiver is left
            self.faults.append(error)
        finally:
            self.open -= 1
            session.closed_at = time.time()
            self.changed()
            session.writer.transport.abort()
            # Bounded: a stream whose STARTTLS was cut off never learns that it is closed.
            with suppress(OSError, asyncio.CancelledError):
                async with asyncio.timeout(0.2):
                    await session.writer.wait_closed()
            self._tasks.discard(task)


def _peak(times: list[float], seconds: float) -> int:
    times = sorted(times)
    most = start = 0
    for end, at in enumerate(times):
        while times[start] <= at - seconds:
            start += 1
        most = max(most, end - start + 1)
    return most
