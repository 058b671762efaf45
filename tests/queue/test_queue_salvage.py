"""A damaged queue: what lies on whole pages is found again, exactly once, and nothing else."""

import asyncio
import contextlib
import random
import shutil
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from relay_queue.durable import Disk
from relay_queue.model import Body, Put, Selection, SuspensionKind
from relay_queue.protocol import Action, BodyDamagedError, QueueVersionError
from relay_queue.sqlite import open_admin, open_queue, salvage_queue
from relay_queue.sqlite.connect import FILE_NAME, READY, WORK, connect
from relay_queue.sqlite.salvage import exchange
from relay_queue.sqlite.salvage.doubt import doubtful
from relay_queue.sqlite.salvage.pages import INDEX_KINDS, TABLE_KINDS, Image
from relay_queue.sqlite.salvage.records import PAGE
from relay_queue.sqlite.salvage.tables import tables_of
from relay_queue.states import State
from tests.support.queues import NOW, a_mark, a_put, in_hand


@dataclass
class Stored:
    """What a queue holds, and where."""

    folder: Path
    recipients: dict[tuple[str, int], str] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    pages: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    """(table, message id) -> the pages that hold its rows."""
    kinds: dict[str, set[int]] = field(default_factory=dict)
    """What a page is for -> such pages."""


async def fill(folder: Path, messages: int) -> None:
    """Mail of all sorts that waits, and more that has left and whose pages are free."""
    chance = random.Random(1)
    queue, admin = open_queue(folder), open_admin(folder)
    for part in range(0, messages, 50):
        puts = []
        for n in range(part, min(part + 50, messages)):
            addresses = [
                f"user{n}-{r}@{chance.choice('abcd')}{n % 7}.test" for r in range(chance.choice([1, 1, 1, 3, 12]))
            ]
            size = chance.choice([20, 300, 3000, 3000, 9000, 30_000])
            body = b"Subject: %d\r\n\r\n" % n + chance.randbytes(size).hex().encode() + b"\r\n"
            put = (in_hand if n % 5 == 0 else a_put)(*addresses, body=body)
            if n % 40 == 7:
                file = queue.new_file()
                file.write(body)
                put = Put(put.entry, Body(b"\r\n", Path(file.name).name, len(body)))
            puts.append(put)
        await asyncio.gather(*(queue.put(put) for put in puts))
        marks = []
        for put in puts:
            for recipient in put.entry.recipients if put.entry.recipients[0].state is State.ACTIVE else ():
                kept = recipient.n == 1
                state = State.QUEUED if kept else State.DELIVERED
                reply = "450 4.2.0 " + "later " * 150 if kept else None
                marks.append(a_mark(put, state, recipient.n, reply=reply, due_at=NOW + 60))
        await queue.mark(marks)
    # Much that was there is gone again: its pages are free and still hold the rows.
    gone = [entry.message.id for entry in admin.select(Selection(), limit=None)][: messages // 3]
    admin.steer(Action.DROP, Selection(ids=tuple(gone)), now=NOW)
    admin.steer(Action.HOLD, Selection(domain="a3.test"), now=NOW)
    admin.suspend(SuspensionKind.DOMAIN, "a1.test", "for a test", None, NOW)
    admin.close()
    await queue.aclose()


def describe(folder: Path) -> Stored:
    """What an undamaged queue holds, asked of SQLite; and where it lies, asked of the pages."""
    stored = Stored(folder)
    admin = open_admin(folder)
    for entry in admin.select(Selection(), limit=None):
        stored.bodies[entry.message.id] = b"".join(admin.body(entry.message.id))
        for recipient in entry.recipients:
            stored.recipients[entry.message.id, recipient.n] = recipient.address
    admin.close()
    reference = connect(folder / FILE_NAME, read_only=True)
    used: set[int] = set()

    class Recording(Image):
        def _overflow(self, number: int, wanted: int) -> bytes | None:
            while wanted > 0:
                used.add(number)
                number, wanted = int.from_bytes(self.page(number)[:4], "big"), wanted - PAGE + 4
            return b""

    with Recording(folder / FILE_NAME) as image, Image(folder / FILE_NAME) as plain:
        for table in tables_of(reference, image):
            pages, doubtful = image.tree(table.root, TABLE_KINDS if table.rowid else INDEX_KINDS)
            assert doubtful == []
            stored.kinds[table.name] = set(pages)
            for number in pages:
                node, whole = image.node(number), plain.node(number)
                assert node is not None
                assert whole is not None
                assert whole.broken == 0
                for cell in whole.cells:
                    if cell.row is None:
                        continue
                    chain = overflow_pages(plain, number, cell.row)
                    stored.pages.setdefault((table.name, cell.row[0]), set()).update({number}, chain)
                    stored.kinds.setdefault("overflow", set()).update(chain)
        stored.kinds["free"] = set(plain.free)
        stored.kinds["map"] = set(range(2, plain.count + 1, PAGE // 5 + 1))
        everything = set().union(*stored.kinds.values())
        stored.kinds["index"] = set(range(3, plain.count + 1)) - everything
        stored.kinds["schema"] = {1}
    reference.close()
    return stored


def overflow_pages(image: Image, number: int, row: tuple[object, ...]) -> set[int]:
    """The overflow pages of a row: found by following the chains of its page once more."""
    used: set[int] = set()

    def follow(first: int, wanted: int) -> bytes:
        chain, parts = first, []
        while wanted > 0:
            content = image.page(chain)
            pages.add(chain)
            parts.append(content[4 : 4 + wanted])
            chain, wanted = int.from_bytes(content[:4], "big"), wanted - PAGE + 4
        return b"".join(parts)

    from relay_queue.sqlite.salvage import records

    content = image.page(number)
    start = 12 if content[0] in {2, 5} else 8
    for n in range(int.from_bytes(content[3:5], "big")):
        pages: set[int] = set()
        at = int.from_bytes(content[start + 2 * n : start + 2 * n + 2], "big")
        cell = records._cell(content, at, 0, content[0], follow)
        if cell.row == row:
            used |= pages
    return used


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    folder = tmp_path_factory.mktemp("stored") / "data"
    asyncio.run(fill(folder, 240))
    found = describe(folder)
    assert {name: len(pages) > 0 for name, pages in found.kinds.items()} == dict.fromkeys(found.kinds, True)
    assert len(found.kinds["recipient"]) > 3, "with an interior page"
    return found


def damage(path: Path, touched: dict[int, str], chance: random.Random) -> None:
    """Damage pages, each in a way."""
    octets = bytearray(path.read_bytes())
    for page, how in touched.items():
        at = (page - 1) * PAGE
        if how == "zero":
            octets[at : at + PAGE] = bytes(PAGE)
        elif how == "random":
            octets[at : at + PAGE] = chance.randbytes(PAGE)
        else:
            for _ in range(int(how)):
                octets[at + chance.randrange(PAGE)] ^= 1 << chance.randrange(8)
    path.write_bytes(octets)


def check(stored: Stored, folder: Path, touched: set[int]) -> None:
    """The new queue has what lies on untouched pages, once; nothing that was not there; and SQLite finds no fault."""
    new = sqlite3.connect(folder / FILE_NAME)
    assert new.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    new.close()
    admin = open_admin(folder)
    found: dict[tuple[str, int], str] = {}
    for entry in admin.select(Selection(), limit=None):
        body_whole = not stored.pages["body", entry.message.id] & touched
        if body_whole and entry.recipients[0].state is not State.QUARANTINED:
            assert b"".join(admin.body(entry.message.id)) == stored.bodies[entry.message.id]
        if not body_whole:
            # Damage of a body file, or of what is known of it, shows when the file is read.
            with contextlib.suppress(BodyDamagedError):
                assert b"".join(admin.body(entry.message.id)) == stored.bodies[entry.message.id]
        for recipient in entry.recipients:
            key = (entry.message.id, recipient.n)
            assert key not in found
            found[key] = recipient.address
    for message_id, n in found.keys() - stored.recipients.keys():
        assert stored.pages["recipient", message_id] & touched, (message_id, n, "was never there")
    for (message_id, n), address in stored.recipients.items():
        where = [stored.pages[table, message_id] for table in ("message", "recipient", "body")]
        if not set().union(*where) & touched:
            assert found.get((message_id, n)) == address, (message_id, n, "is lost", where)
    admin.close()


CASES = [
    (kind, how)
    for kind in ("index", "map", "free", "schema", "recipient", "overflow", "any")
    for how in ("1", "9", "zero", "random")
]


@pytest.mark.parametrize(("kind", "how"), CASES)
def test_what_lies_on_whole_pages_is_salvaged(stored: Stored, tmp_path: Path, kind: str, how: str):
    for seed in range(2):
        chance = random.Random(f"{kind} {how} {seed}")
        pages = sorted(stored.kinds.get(kind) or set().union(*stored.kinds.values()))
        touched = dict.fromkeys(chance.sample(pages, min(len(pages), chance.choice([1, 3, 8]))), how)
        folder = tmp_path / str(seed)
        shutil.copytree(stored.folder, folder)
        damage(folder / FILE_NAME, touched, chance)
        ready = salvage_queue(folder, NOW)
        assert (folder / ready.kept / FILE_NAME).exists()
        check(stored, folder, set(touched))


def same(folder: Path, other: Path) -> None:
    """Two queues have the same rows in all tables, in the order of reading."""
    contents = []
    for each in (folder, other):
        connection = sqlite3.connect(each / FILE_NAME)
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")]
        contents.append({name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names})
        contents[-1]["body"].sort()
        connection.close()
    assert contents[0] == contents[1]


def test_a_whole_queue_stays_what_it_was(stored: Stored, tmp_path: Path):
    folder = tmp_path / "data"
    shutil.copytree(stored.folder, folder)
    before = [path.relative_to(folder / "bodies") for path in (folder / "bodies").glob("??/*")]
    ready = salvage_queue(folder, NOW)
    assert ready.salvaged.whole
    assert (ready.salvaged.messages, ready.salvaged.recipients) == (len(stored.bodies), len(stored.recipients))
    assert ready.salvaged.history > 50
    same(folder, stored.folder)
    assert before
    for path in before:
        assert (folder / "bodies" / path).read_bytes() == (folder / ready.kept / "bodies" / path).read_bytes()
    same(folder / ready.kept, stored.folder)
    assert not (folder / WORK).exists()


async def test_what_is_still_in_the_log_is_salvaged(tmp_path: Path):
    queue = open_queue(tmp_path / "data")
    puts = [a_put(f"u{n}@example.test", body=b"\r\n" + b"x" * 5000) for n in range(30)]
    await asyncio.gather(*(queue.put(put) for put in puts))
    folder = tmp_path / "copy"
    shutil.copytree(tmp_path / "data", folder)  # as a crash leaves it
    await queue.aclose()
    log = folder / f"{FILE_NAME}-wal"
    assert log.stat().st_size > 30 * 5000
    torn = tmp_path / "torn"
    shutil.copytree(folder, torn)
    octets = bytearray((torn / log.name).read_bytes())
    octets[-1] ^= 1
    (torn / log.name).write_bytes(octets)
    assert salvage_queue(folder, NOW).salvaged.messages == 30
    assert salvage_queue(torn, NOW).salvaged.messages < 30, "a commit with a torn frame never was"
    admin = open_admin(folder)
    assert {entry.message.id for entry in admin.select(Selection())} == {put.entry.message.id for put in puts}
    admin.close()


class Killed(BaseException):
    """As SIGKILL: nothing is cleaned up."""


class Mortal(Disk):
    """Dies before the n-th durable step."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __getattribute__(self, name: str):
        if name in {"create", "sync", "rename", "make_folder", "sync_folder", "remove"}:
            self.left -= 1
            if self.left < 0:
                raise Killed
        return object.__getattribute__(self, name)


def test_a_salvage_that_is_killed_at_any_step_goes_on(stored: Stored, tmp_path: Path):
    completed = False
    steps = 0
    while not completed:
        folder = tmp_path / str(steps)
        shutil.copytree(stored.folder, folder)
        try:
            exchange.salvage(folder, NOW, Mortal(steps))
            completed = True
        except Killed:
            if (folder / WORK / READY).exists():
                with pytest.raises(QueueVersionError, match="relay queue salvage"):
                    open_admin(folder)
            else:
                open_admin(folder).close()
            ended = bool(list(folder.glob("queue.damaged-*"))) and not (folder / WORK / READY).exists()
            salvage_queue(folder, NOW + 1)
            assert len(list(folder.glob("queue.damaged-*"))) == 1 + ended
        same(folder, stored.folder)
        for kept in folder.glob("queue.damaged-*"):
            same(kept, stored.folder)
        assert not (folder / WORK).exists()
        shutil.rmtree(folder)
        steps += 1
    assert steps > 10


def test_damage_that_shows_in_an_address_is_set_aside(tmp_path: Path):
    admin = open_admin(tmp_path / "data")
    puts = [a_put(address) for address in ("a@example.test", "B@Example.TEST", "c@[192.0.2.1]", "d@bücher.test")]
    for put in puts:
        put.entry.recipients[0].domain = put.entry.recipients[0].domain.lower()
        admin.put(put)
    puts[3].entry.recipients[0].domain = "xn--bcher-kva.test"
    admin.close()
    path = tmp_path / "data" / FILE_NAME
    octets = path.read_bytes()
    assert octets.count(b"a@example.test") == 1
    path.write_bytes(octets.replace(b"a@example.test", b"a@exalple.test"))
    done = salvage_queue(tmp_path / "data", NOW).salvaged
    assert done.doubtful == [f"{puts[0].entry.message.id}/0"]
    admin = open_admin(tmp_path / "data")
    states = {entry.message.id: entry.recipients[0].state for entry in admin.select(Selection())}
    admin.close()
    assert list(states.values()) == [State.QUARANTINED, State.QUEUED, State.QUEUED, State.QUEUED]


@pytest.mark.parametrize(
    ("address", "domain", "header", "others", "doubt"),
    [
        ("ann@example.test", "example.test", b"To: <Ann@Example.test>", [], False),
        ("ann@example.test", "example.test", b"To: somebody", [], False),
        ("ann@example.test", "exbmple.test", b"", [], True),
        ("ann@EXAMPLE.test", "example.test", b"", [], False),
        ("ann@b\u00fccher.test", "xn--bcher-kva.test", b"", [], False),
        ("a\x01n@example.test", "example.test", b"", [], True),
        ("postmaster", "relay.test", b"", [], False),
        ("aon@example.test", "example.test", b"To: ann@example.test", [], True),
        ("aon@example.test", "example.test", b"To: ann@example.test, AON@example.test", [], False),
        ("user2@example.test", "example.test", b"To: user1@example.test", ["user1@example.test"], False),
        ("user22@example.test", "example.test", b"To: user1@example.test, other@example.test", [], False),
    ],
)
def test_whether_an_address_looks_damaged(address: str, domain: str, header: bytes, others: list[str], *, doubt: bool):
    assert doubtful(address, domain, header, [address, *others]) is doubt


def test_what_is_lost_is_named(stored: Stored, tmp_path: Path):
    folder = tmp_path / "data"
    shutil.copytree(stored.folder, folder)
    large = next(name for (table, name), pages in stored.pages.items() if table == "body" and len(pages) > 3)
    lost = max(stored.pages["body", large] & stored.kinds["overflow"])
    one = next(key for key in stored.recipients if stored.pages["recipient", key[0]].isdisjoint({lost}))
    damage(
        folder / FILE_NAME, {lost: "zero"} | dict.fromkeys(stored.pages["message", one[0]], "zero"), random.Random(1)
    )
    done = salvage_queue(folder, NOW).salvaged
    assert one[0] in done.lost_envelope
    assert large in done.lost_content or large in done.lost_envelope
    assert done.lost_rows
    assert not done.whole


def test_a_queue_of_a_newer_release_is_left_alone(stored: Stored, tmp_path: Path):
    folder = tmp_path / "data"
    shutil.copytree(stored.folder, folder)
    connection = sqlite3.connect(folder / FILE_NAME)
    connection.execute("ALTER TABLE message ADD COLUMN colour TEXT")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = (folder / FILE_NAME).read_bytes()
    with pytest.raises(QueueVersionError):
        salvage_queue(folder, NOW)
    assert (folder / FILE_NAME).read_bytes() == before


def test_a_damaged_version_is_found_out_by_the_tables(stored: Stored, tmp_path: Path):
    folder = tmp_path / "data"
    shutil.copytree(stored.folder, folder)
    octets = bytearray((folder / FILE_NAME).read_bytes())
    octets[:100] = bytes(100)
    (folder / FILE_NAME).write_bytes(octets)
    assert salvage_queue(folder, NOW).salvaged.whole
    same(folder, stored.folder)
