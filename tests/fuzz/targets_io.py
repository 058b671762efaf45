"""Targets with files, sockets or a loop: a session's stream, settings, users, events, the PROXY header, queue rows."""

import asyncio
import contextlib
import logging
import re
import shutil
import socket
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from relay.events.format import line_of
from relay.events.read import read as read_events
from relay.model.notices import Due, Everything, PendingActions, SuspensionsChanged
from relay.process.wake import _decode as parse_notices
from relay.smtp.server.proxy import read_proxy
from relay.submission.users import UserFileError, read_users
from relay_config.check import check
from relay_queue.model import Destination, Selection
from relay_queue.protocol import Action, BodyDamagedError, QueueError
from relay_queue.sqlite import open_admin, open_queue
from tests.support.fuzzing import Target
from tests.support.queues import NOW, a_put, worker
from tests.support.remembering_handler import RememberingHandler
from tests.support.sans_io import Dialog

_REPLY = re.compile(rb"(?:[2-5][0-9]{2}(?:-[^\r\n]*\r\n[2-5][0-9]{2})*(?: [^\r\n]*)\r\n)*")
_ROOT = Path(__file__).parents[2]


class _Raised(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(record.getMessage()) from (record.exc_info[1] if record.exc_info else None)


@contextlib.contextmanager
def _no_internal_errors() -> Iterator[None]:
    log, watch = logging.getLogger("relay.smtp.server.session"), _Raised()
    log.addHandler(watch)
    try:
        yield
    finally:
        log.removeHandler(watch)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    name = tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    try:
        yield Path(name)
    finally:
        shutil.rmtree(name)


def stream(data: bytes) -> None:
    """A whole session's octets, in any cut: one well-formed reply a command, and nothing stored that may not be."""
    step, octets = (data[0] * 4 + 1, data[1:]) if data else (1, b"")

    async def converse() -> Dialog:
        dialog = Dialog(RememberingHandler(trusted=bool(step % 2)), auth="optional", max_message_size=2000)
        for at in range(0, len(octets), step):
            if not dialog.closed:
                dialog.feed(octets[at : at + step])
        return dialog

    with _no_internal_errors():
        dialog = asyncio.run(converse())
    assert _REPLY.fullmatch(dialog.replies), dialog.replies
    assert b"4.3.0" not in dialog.replies
    for message in dialog.handler.messages:
        assert message.octets.count(b"\r") == message.octets.count(b"\n") == message.octets.count(b"\r\n")
        assert b"\0" not in message.octets
        assert message.recipients


def settings(data: bytes) -> None:
    """Any file is settings or a list of problems, each with its remedy; never an exception."""
    with _folder() as folder:
        path = folder / "relay.toml"
        path.write_bytes(data)
        report = check(path, {}, NOW)
        assert report.settings is not None or report.problems
        for problem in report.problems:
            assert problem.remedy
            assert problem.found


def environment(data: bytes) -> None:
    """So is any environment."""
    name, _, value = data.decode("utf-8", "surrogateescape").replace("\0", "").partition("=")
    with _folder() as folder:
        path = folder / "relay.toml"
        path.write_text('hostname = "x.test"\ndata_dir = "data"\n')
        report = check(path, {f"RELAY_{name.upper()}": value}, NOW)
        assert report.settings is not None or report.problems


def users(data: bytes) -> None:
    """Any file is users or a sentence."""
    with _folder() as folder:
        path = folder / "users.json"
        path.write_bytes(data)
        try:
            for name, user in read_users(path).items():
                assert name == user.name
        except UserFileError:
            return


def events(data: bytes) -> None:
    """Damage in the store is passed over."""
    with _folder() as folder:
        (folder / "events").mkdir()
        for slot in "01":
            (folder / "events" / f"2027-01-15-{slot}.jsonl").write_bytes(data)
        for event in read_events(folder):
            assert line_of(event).isprintable()


def notices(data: bytes) -> None:
    """A datagram from anybody in the folder is a notice we know, or a look at everything."""
    for notice in parse_notices(data):
        assert isinstance(notice, Due | PendingActions | SuspensionsChanged | Everything)
        if isinstance(notice, Due) and notice.destination is not None:
            assert isinstance(notice.destination.domain + notice.destination.stream, str)


def proxy(data: bytes) -> None:
    """A header, or none: no octet of it raises."""

    async def run() -> None:
        here, there = socket.socketpair()
        try:
            here.setblocking(False)
            there.sendall(data[:4096])
            there.close()
            await read_proxy(asyncio.get_running_loop(), here, 5.0)
        finally:
            here.close()

    asyncio.run(run())


_COLUMNS = [
    (
        "message",
        "id",
        (
            "received_at sender size user origin envid ret eightbit smtputf8 "
            "header_id stream tags metadata idempotency_key not_before expires_at"
        ),
    ),
    (
        "recipient",
        "message_id",
        (
            "address domain notify orcpt attempts due_at lane reply failure delay_notified changed_at n"
            " stream remote reason"
        ),
    ),
    ("body", "message_id", "head head_crc file file_size file_crc"),
]


def _spoil(path: Path, data: bytes, spoilt: str) -> None:
    """Put octets of `data` into a column that they choose: as a blob, text, number, or nothing."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for at in range(0, max(len(data) - 3, 1), 9):
            piece = data[at : at + 9] + b"\0" * 3
            table, key, columns = _COLUMNS[piece[0] % len(_COLUMNS)]
            column = columns.split()[piece[1] % len(columns.split())]
            value = ["CAST(? AS TEXT)", "CAST(? AS BLOB)", "CAST(? AS INTEGER)", "CAST(? AS REAL)", "-1e999", "NULL"]
            sql = value[piece[2] % len(value)]
            given = [piece[3:], spoilt] if "?" in sql else [spoilt]
            with contextlib.suppress(sqlite3.Error):
                connection.execute(f"UPDATE {table} SET {column} = {sql} WHERE {key} = ?", given)


async def _use(folder: Path) -> set[str]:
    """All that a worker and an admin do; ids of what could be claimed whole. Raises nothing but queue errors."""
    queue = open_queue(folder)
    claimed = set()
    try:
        with contextlib.suppress(QueueError):
            await queue.recover_node("local")
        after: Destination | None = None
        for _ in range(10):
            due = await queue.due(NOW + 1e9, after, 5)
            if not due:
                break
            for destination, _ in due:
                for entry in await queue.claim(worker(1), destination, 50, NOW + 1e9):
                    try:
                        body = await queue.head(entry.message.id)
                        if body.file:
                            queue.open_file(body).close()
                        claimed.add(entry.message.id)
                    except BodyDamagedError:
                        pass
            after = due[-1][0]
        await queue.pending_actions(worker(1))
    finally:
        await queue.aclose()
    admin = open_admin(folder)
    try:
        for entry in list(admin.select(Selection(), limit=None)):
            admin.show(entry.message.id)
            with contextlib.suppress(QueueError, KeyError):  # KeyError: no such message (any more)
                b"".join(admin.body(entry.message.id))
        admin.summary(Selection())
        admin.ended()
        admin.steer(Action.HOLD, Selection(), now=NOW)
        admin.steer(Action.RELEASE, Selection(), now=NOW)
    finally:
        admin.close()
    return claimed


def _filled(folder: Path) -> list[str]:
    """A queue of three messages; their ids."""

    async def fill() -> list[str]:
        queue = open_queue(folder)
        try:
            puts = [a_put(f"u{n}@d{n % 2}.test", body=b"Subject: x\r\n\r\n" + b"y" * 900 * n) for n in range(3)]
            for put in puts:
                await queue.put(put)
            return [put.entry.message.id for put in puts]
        finally:
            await queue.aclose()

    return asyncio.run(fill())


def rows(data: bytes) -> None:
    """A spoilt row is set aside or harmless; the other messages are untouched by it."""
    with _folder() as folder:
        first, second, third = _filled(folder / "data")
        _spoil(folder / "data" / "queue.db", data, second)
        claimed = asyncio.run(_use(folder / "data"))
        assert {first, third} <= claimed


def database(data: bytes) -> None:
    """Flipped bits anywhere in the file: refused or set aside in a sentence, never another exception."""
    with _folder() as folder:
        _filled(folder / "data")
        path = folder / "data" / "queue.db"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        octets = bytearray(path.read_bytes())
        for at in range(0, len(data) - 3, 4):
            octets[int.from_bytes(data[at : at + 3]) % len(octets)] ^= data[at + 3] or 1
        path.write_bytes(octets)
        with contextlib.suppress(QueueError):
            asyncio.run(_use(folder / "data"))


IO = [
    Target(
        "stream",
        stream,
        [
            b"\x40EHLO c.test\r\nMAIL FROM:<a@b.test> SIZE=9\r\nRCPT TO:<c@d.test>\r\nDATA\r\n",
            b"\x08EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 6\r\nA: b\r\nBDAT 2 LAST\r\n\r\n",
            b"\x01EHLO c.test\r\nAUTH PLAIN AHVzZXIAcGFzcw==\r\nNOOP\r\nRSET\r\nAUTH LOGIN\r\ndXNlcg==\r\n*\r\n",
            b"\x00HELO c\r\nVRFY x\r\nHELP\r\nFOO\r\nSTARTTLS\r\nEHLO c\r\nMAIL FROM:<>\r\n",
        ],
    ),
    Target("settings", settings, [(_ROOT / "relay.toml.example").read_bytes(), b'hostname = "x.test"\n[[listener]]\n']),
    Target("environment", environment, [b"HOSTNAME=x.test", b"LIMITS__ERRORS=5", b"THROTTLE__RATE=5/s", b"WORKERS=2"]),
    Target(
        "users",
        users,
        [
            b'{"version":1,"users":[{"name":"a","credential":{"scheme":"sha256","value":"c3f8"},"senders":["*"]}]}',
        ],
    ),
    Target(
        "events",
        events,
        [
            b'{"time":1795357036.271,"level":"info","event":"accepted","worker":"0","id":"x","to":["y@z.test"]}\n',
            b'{"time":1795357036.3,"level":"info","event":"delivered","worker":"0","id":"x","n":0,"to":"y@z.test"}\n',
        ],
    ),
    Target(
        "notices",
        notices,
        [
            b'{"type":"due"}\n{"type":"pending"}\n{"type":"suspensions"}',
            b'{"type":"due","destination":{"domain":"example.test","stream":"bulk"}}',
            b'{"type":"everything"}',
        ],
    ),
    Target(
        "proxy",
        proxy,
        [
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 25\r\n",
            b"PROXY UNKNOWN\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\x10\0\0\x19",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24" + bytes(36),
            b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        ],
    ),
    Target("rows", rows, [bytes([n % 3, n, n % 6]) + b"\xff40\xc0@" for n in range(20)]),
    Target("database", database, [bytes([0, 16, n, 255, 0, n, 7, 1]) for n in range(20)]),
]
