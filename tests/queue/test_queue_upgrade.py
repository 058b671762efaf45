"""Queues of earlier releases: an upgrade loses nothing, and one that is broken off is done again from the start."""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from relay_queue.model import DEFAULT_STREAM, LOCAL_NODE, Destination, Mark, Selection, SuspensionKind
from relay_queue.protocol import Action, QueueError
from relay_queue.sqlite import connect as connecting
from relay_queue.sqlite import open_admin, open_queue
from relay_queue.sqlite.connect import FILE_NAME
from relay_queue.sqlite.sql import migrations
from relay_queue.states import State
from tests.support.releases import RELEASES, contents, copy_of

UPGRADE = Path(__file__).parents[1] / "support" / "queue_upgrade.py"
WAL = f"{FILE_NAME}-wal"
FRAME = 24 + 4096
LATER = 2_000_000_000.0
NEW = {
    "message": {
        "header_id": None,
        "stream": DEFAULT_STREAM,
        "tags": None,
        "metadata": None,
        "idempotency_key": None,
        "not_before": None,
        "expires_at": None,
    },
    "recipient": {"stream": DEFAULT_STREAM, "remote": None, "reason": None},
    "body": {},
    "ended": dict.fromkeys(
        ["reason", "header_id", "stream", "tags", "metadata", "idempotency_key", "not_before", "expires_at"]
    ),
    "suspension": {},
}
"""The columns of version 2 that version 1 had not, and what they hold after the upgrade."""
RENAMED = {"wish": "pending"}

# What the folder of version 1 has no example of: the other states, wishes, texts that are set, several workers.
MORE = """
UPDATE recipient SET state = 2, owner = NULL, reply = 'held é' WHERE address LIKE 'ok-old-2@%';
UPDATE recipient SET state = 3, owner = NULL, failure = 'damaged' WHERE address LIKE 'ok-old-4@%';
UPDATE recipient SET owner = 3, wish = 'drop' WHERE address LIKE 'ok-old-6@%';
UPDATE recipient SET owner = 7, wish = 'hold' WHERE address LIKE 'ok-old-8@%';
UPDATE recipient SET attempts = 4, due_at = due_at + 0.5, lane = 'mx.test', reply = '450 4.2.0 later', notify = 'NEVER',
    orcpt = 'rfc822;x', failure = 'greylisted', delay_notified = 1, changed_at = changed_at + 0.25
    WHERE address LIKE 'ok-old-5@%';
UPDATE message SET user = 'u', origin = 'cli', envid = 'e+2B', ret = 'HDRS', eightbit = 1, smtputf8 = 1
    WHERE sender LIKE 's-old-5@%';
INSERT INTO recipient SELECT message_id, 1, 'second@x.test', 'x.test', NULL, NULL, 0, NULL, 0, due_at, NULL, NULL, NULL,
    0, changed_at, NULL FROM recipient WHERE address LIKE 'ok-old-5@%';
UPDATE ended SET state = 5, user = 'u', reply = '550 5.1.1 no', failure = 'refused', lane = 'mx.test',
    remote = 'mx.test' WHERE address LIKE 'ok-old-21@%';
UPDATE ended SET state = 7 WHERE address LIKE 'ok-old-22@%';
INSERT INTO suspension (id, kind, value, reason, created_at, until) VALUES
    (4, 'domain', 'd1.test', 'asked', 1795357000.5, NULL), (9, 'site', '*.mx.test', 'löud', 1795357001.5, 1895357001.5);
DELETE FROM suspension WHERE id = 9;
INSERT INTO suspension (kind, value, reason, created_at, until) VALUES ('user', 'u', '', 1795357002.5, 1895357001.5);
"""


@pytest.fixture
def old(tmp_path):
    folder = copy_of(1, tmp_path / "old")
    connection = sqlite3.connect(folder / FILE_NAME)
    connection.executescript(MORE)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return folder


@pytest.fixture
def undisturbed(old, tmp_path):
    folder = shutil.copytree(old, tmp_path / "undisturbed")
    open_admin(folder).close()
    found = contents(folder / FILE_NAME)
    assert found[0] == len(migrations())
    return found


def rows(folder):
    """All rows by table, each row as a dictionary."""
    connection = sqlite3.connect(folder / FILE_NAME)
    connection.row_factory = sqlite3.Row
    try:
        return {
            table: [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")] for table in NEW
        }
    finally:
        connection.close()


def run(way, old, work, step):
    """What each disturbed upgrade said, with its folder; the last, undisturbed folder is not among them."""
    work.mkdir()
    argv = [sys.executable, str(UPGRADE), way, str(old), str(work), str(step)]
    done = subprocess.run(argv, capture_output=True, check=True, timeout=100)
    said = [json.loads(line) for line in done.stdout.splitlines()]
    return [(work / str(n), each) for n, each in enumerate(said, 1)]


def looked_at(folder, tmp_path):
    """The contents that any program would find now, without a change to the folder."""
    copy = shutil.copytree(folder, tmp_path / "look")
    try:
        return contents(copy / FILE_NAME)
    finally:
        shutil.rmtree(copy)


def test_every_old_value_is_kept_and_new_columns_have_their_defaults(old):
    before = rows(old)
    assert all(before.values()), "an example of each kind"
    assert {row["state"] for row in before["recipient"]} == {State.QUEUED, State.ACTIVE, State.HELD, State.QUARANTINED}
    open_admin(old).close()
    after = rows(old)
    for table, new in NEW.items():
        kept = [{RENAMED.get(name, name): value for name, value in row.items()} for row in before[table]]
        assert after[table] == [row | new for row in kept], table


async def test_the_history_and_suspensions_can_be_read_after_an_upgrade(old):
    before = rows(old)
    admin = open_admin(old)
    ended = sorted(admin.ended(), key=lambda row: row.message_id)
    assert [row.address for row in ended] == [row["address"] for row in before["ended"]]
    assert [(row.stream, row.tags, row.metadata, row.reason) for row in ended] == [(DEFAULT_STREAM, (), {}, None)] * 5
    assert [(each.id, each.kind, each.value) for each in admin.suspensions()] == [
        (4, SuspensionKind.DOMAIN, "d1.test"),
        (10, SuspensionKind.USER, "u"),
    ]
    # Numbers are never used again, not even the one that was removed before the upgrade.
    assert admin.suspend(SuspensionKind.DOMAIN, "new.test", "", None, LATER).id == 11
    admin.close()


async def test_all_old_mail_is_claimed_and_delivered_after_an_upgrade(old):
    before = {(row["message_id"], row["n"]): row for row in rows(old)["recipient"]}
    queue, admin = open_queue(old), open_admin(old)
    owner = await queue.lease(LOCAL_NODE, 3)
    assert owner.lease > 7, "a lease is no old worker's number"
    claimed_before = [row for row in before.values() if row["state"] == State.ACTIVE]
    assert len(claimed_before) == 8
    assert await queue.recover(owner) == 1, "what the old worker of this number had claimed"
    assert await queue.recover_node(LOCAL_NODE) == 7
    # The wishes from before the upgrade were carried out.
    dropped = {row.address for row in admin.ended() if row.state is State.DROPPED}
    assert dropped == {"ok-old-6@d6.test", "ok-old-22@d6.test"}
    held = [r for e in admin.select(Selection(states=(State.HELD,))) for r in e.recipients]
    assert {r.address for r in held} == {"ok-old-2@d2.test", "ok-old-8@d0.test"}
    assert admin.steer(Action.RELEASE, Selection(states=(State.HELD, State.QUARANTINED)), now=1.0).recipients == 3

    owner = await queue.lease(LOCAL_NODE, 3)
    delivered = 0
    for destination, _ in await queue.due(LATER, None, 100):
        assert destination.stream == DEFAULT_STREAM
        for entry in await queue.claim(owner, destination, 100, LATER):
            for recipient in entry.recipients:
                was = before[recipient.message_id, recipient.n]
                assert (recipient.attempts, recipient.lane) == (was["attempts"], was["lane"])
                mark = Mark(
                    message_id=recipient.message_id,
                    n=recipient.n,
                    owner=owner.lease,
                    state=State.DELIVERED,
                    at=LATER,
                    attempts=recipient.attempts + 1,
                )
                body = await queue.head(recipient.message_id)
                if body.file is not None:
                    with queue.open_file(body) as file:
                        assert len(file.read()) == body.file_size
                assert body.head.startswith(b"Subject: old")
                assert await queue.mark([mark]) == []
                delivered += 1
    assert delivered == len(before) - 1
    assert list(admin.select(Selection())) == []
    assert list((old / "bodies").glob("*/*")) == []
    admin.close()
    await queue.aclose()


@pytest.mark.parametrize("stride", [0, 40], ids=["statements", "instructions"])
def test_an_upgrade_that_is_killed_changes_nothing_or_all(old, undisturbed, tmp_path, stride):
    before = contents(old / FILE_NAME)
    kills = run("kill", old, tmp_path / "work", stride)
    assert len(kills) > 30
    found = []
    for folder, where in kills:
        found.append(looked_at(folder, tmp_path))
        assert found[-1] in (before, undisturbed), where
        open_admin(folder).close()
        assert contents(folder / FILE_NAME) == undisturbed, where
        assert int.from_bytes((folder / FILE_NAME).read_bytes()[60:64], "big") == len(migrations()), where
    assert before in found
    if stride == 0:
        assert any("user_version =" in where for _, where in kills)
        assert undisturbed in found, "one kill is between the commit and the checkpoint"


def committed(old, tmp_path):
    """The folder of an upgrade that was killed after its commit, before anything was copied from the log."""
    for folder, where in run("kill", old, tmp_path / "work", 0):
        if "wal_checkpoint" in where:
            return folder
    raise AssertionError("no kill before the checkpoint")


def test_a_log_that_was_written_in_part_changes_nothing(old, undisturbed, tmp_path):
    before, whole = contents(old / FILE_NAME), committed(old, tmp_path)
    log = (whole / WAL).read_bytes()
    frames = (len(log) - 32) // FRAME
    assert frames > 5
    for length in [0, 16, 32, *(32 + n * FRAME + part for n in range(frames) for part in (12, FRAME // 2, FRAME))]:
        folder = shutil.copytree(whole, tmp_path / f"log-{length}")
        (folder / f"{FILE_NAME}-shm").unlink()
        (folder / WAL).write_bytes(log[:length])
        assert looked_at(folder, tmp_path) == (undisturbed if length == len(log) else before), length
        open_admin(folder).close()
        assert contents(folder / FILE_NAME) == undisturbed, length


def test_a_checkpoint_that_was_written_in_part_loses_nothing(old, undisturbed, tmp_path):
    whole = committed(old, tmp_path)
    finished = shutil.copytree(whole, tmp_path / "finished")
    open_admin(finished).close()
    pages, stale = (finished / FILE_NAME).read_bytes(), (whole / FILE_NAME).read_bytes()
    assert pages != stale
    for n in range(len(pages) // 4096 + 1):
        folder = shutil.copytree(whole, tmp_path / f"pages-{n}")
        (folder / FILE_NAME).write_bytes(pages[: n * 4096] + stale[n * 4096 :])
        open_admin(folder).close()
        assert contents(folder / FILE_NAME) == undisturbed, n


def test_an_upgrade_on_a_full_disk_changes_nothing_and_says_why(old, undisturbed, tmp_path):
    before = contents(old / FILE_NAME)
    refusals = run("full", old, tmp_path / "work", 4096)
    assert len(refusals) > 10
    found = []
    for folder, (kind, text) in refusals:
        assert kind == "QueueFullError", text
        assert str(folder / FILE_NAME) in text
        found.append(looked_at(folder, tmp_path))
        assert found[-1] in (before, undisturbed)
        open_admin(folder).close()  # there is room again
        assert contents(folder / FILE_NAME) == undisturbed
    assert before in found


OPEN = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT count(*) FROM message").fetchall()
print("open", flush=True)
sys.stdin.read()
"""


def test_a_queue_that_an_older_server_has_open_is_not_upgraded(old, undisturbed):
    before = rows(old)
    argv = [sys.executable, "-c", OPEN, str(old / FILE_NAME)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout.readline() == b"open\n"
        for opening in (open_admin, open_queue):
            with pytest.raises(QueueError, match="stop the relay"):
                opening(old)
        assert rows(old) == before
        server.kill()
    open_admin(old).close()
    assert contents(old / FILE_NAME) == undisturbed


@pytest.mark.parametrize("script", ["SELECT broken;", "UPDATE message SET sender = NULL;"])
def test_a_migration_that_fails_changes_nothing(old, tmp_path, monkeypatch, script):
    before = contents(old / FILE_NAME)
    real = migrations()
    monkeypatch.setattr(connecting, "migrations", lambda: (*real[:1], real[1] + script))
    with pytest.raises(QueueError, match="opening"):
        open_admin(old)
    assert contents(old / FILE_NAME) == before


def test_there_is_a_folder_of_every_schema_version():
    names = [f"schema-{number:04}" for number in range(1, len(migrations()) + 1)]
    assert sorted(path.name for path in RELEASES.iterdir()) == names


async def test_a_folder_of_the_second_version_is_read(tmp_path):
    folder = copy_of(2, tmp_path / "data")
    queue, admin = open_queue(folder), open_admin(folder)
    entries = {entry.message.sender: entry for entry in admin.select(Selection(), limit=None)}
    assert len(entries) == 20
    states = {recipient.state for entry in entries.values() for recipient in entry.recipients}
    assert states == {State.QUEUED, State.ACTIVE, State.HELD, State.QUARANTINED}
    message = entries["s-old-9@back.test"].message
    assert (message.stream, message.tags, message.metadata) == ("bulk", ("welcome", "été"), {"order": "9"})
    assert (message.idempotency_key, message.header_id) == ("key-9", "<old-9@back.test>")
    assert (message.not_before, message.expires_at) == (message.received_at - 1, message.received_at + 1e9)
    assert b"".join(admin.body(message.id)).endswith(b"Still to be delivered.\r\n")
    (ended,) = admin.ended(address="s-old-21@back.test")
    assert (ended.stream, ended.tags, ended.metadata) == ("bulk", ("welcome", "été"), {"order": "21"})
    (held,) = entries["s-old-5@back.test"].recipients
    assert (held.state, held.remote, held.reason) == (State.HELD, "mx.test[192.0.2.1]:25", "please wait")
    assert [each.value for each in admin.suspensions()] == ["stopped.test"]
    await queue.recover_node(LOCAL_NODE)
    owner = await queue.lease(LOCAL_NODE, 0)
    claimed = await queue.claim(owner, Destination("d1.test", "bulk"), 10, LATER)
    assert message.id in {entry.message.id for entry in claimed}
    admin.close()
    await queue.aclose()
