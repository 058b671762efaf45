"""How SQLite carries out what a running server asks: never by reading a live table from end to end."""

import json
import re

import pytest

from relay_queue.model import DEFAULT_STREAM
from relay_queue.sqlite.apply import Changes
from relay_queue.sqlite.connect import FILE_NAME, connect
from relay_queue.sqlite.sql import queries
from tests.support.queues import NOW, a_put

SERVER = queries("server")
LIVE = r"\bSCAN (r|m|b|recipient|message|body)\b(?! USING COVERING INDEX)"
SORTED = {"claimable", "claimable_keys", "due", "prune"}
"""Queries whose order must come from an index, so that LIMIT stops them early."""
SMALL = {
    "leases_of_worker": "a row for each running worker",
    "leases_of_node": "a row for each running worker",
    "suspensions": "a handful of rows",
    "queued_destinations": "asked only where a damaged domain was met",
    "quarantine_bytes": "as queued_destinations",
}


@pytest.fixture
def connection(sqlite_pair, tmp_path):
    made = connect(tmp_path / "data" / FILE_NAME)
    Changes(made)
    made.execute(SERVER["keys_table"])
    yield made
    made.close()


def plan(connection, query):
    names = set(re.findall(r":(\w+)", query))
    given = dict.fromkeys(names, 0) if names else [0] * query.count("?")
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", given)]


@pytest.mark.parametrize("name", sorted(set(SERVER) - {"keys_table", "vacuum", "free_pages"}))
async def test_no_query_of_the_server_scans_a_live_table(connection, name):
    steps = plan(connection, SERVER[name])
    if name not in SMALL:
        assert not [step for step in steps if re.search(LIVE, step)], steps
    if name in SORTED:
        assert not [step for step in steps if "TEMP B-TREE" in step], steps


def statements(trigger):
    body = trigger.partition(" BEGIN\n")[2].rpartition("END")[0]
    found = [part.strip() for part in body.split(";") if part.strip()]
    return [
        # Alone, a statement may not RAISE, and has parameters for the trigger's row.
        re.sub(r"\bNEW\.(\w+)", r":\1", statement).replace("RAISE(ABORT, 'a mark is not plain')", "1")
        for statement in found
    ]


CHANGES = [
    (name, number, statement)
    for name, query in queries("changes").items()
    if name not in {"view", "changes"}
    for number, statement in enumerate(statements(query), 1)
]


@pytest.mark.parametrize("statement", [pytest.param(text, id=f"{name}-{n}") for name, n, text in CHANGES])
async def test_no_change_scans_a_live_table(connection, statement):
    steps = plan(connection, statement)
    assert steps or "VALUES" in statement
    assert not [step for step in steps if re.search(r"\bSCAN (r|m|b|recipient|message|body)\b", step)], steps


async def test_the_guard_sees_a_scan(connection):
    assert [step for step in plan(connection, "SELECT r.reply FROM recipient AS r") if re.search(LIVE, step)]


async def test_the_summary_of_all_reads_indexes_only(connection):
    steps = plan(connection, queries("admin")["summary_all"])
    assert not [step for step in steps if re.search(LIVE, step)], steps


def work_of(connection, query, given):
    """Steps of SQLite's virtual machine, in hundreds: the same on every machine."""
    ticks = []
    connection.set_progress_handler(lambda: ticks.append(1), 100)
    rows = connection.execute(query, given).fetchall()
    connection.set_progress_handler(None, 0)
    return len(ticks), len(rows)


async def test_claim_due_and_bring_forward_cost_the_same_however_many_wait(sqlite_pair, connection):
    costs = []
    for recipients in (50, 5000):
        put = a_put(*(f"u{n}@d{n % 50}.test" for n in range(recipients)))
        await sqlite_pair.queue.put(put)
        claimed = work_of(
            connection,
            SERVER["claimable"],
            {"domain": "d7.test", "stream": DEFAULT_STREAM, "tried": 0, "now": NOW + 9, "limit": 1},
        )
        due = work_of(connection, SERVER["due"], {"after_domain": "", "after_stream": "", "limit": 100})
        given = {
            "destinations": json.dumps([(name, DEFAULT_STREAM) for name in ("d7.test", "d8.test")]),
            "tried": 0,
            "latest": NOW + 9,
            "due_at": NOW,
            "limit": 9,
        }
        brought_forward = work_of(connection, SERVER["bring_forward"], given)
        assert (claimed[1], due[1]) == (1, 50)
        costs.append(claimed[0] + due[0] + brought_forward[0])
    assert costs[1] <= costs[0] * 1.2 + 2, costs


async def test_many_are_brought_forward_in_many_transactions(sqlite_pair):
    queue = sqlite_pair.queue
    await queue.put(a_put(*(f"u{n}@x.test" for n in range(1000)), recipient={"due_at": NOW + 9}))
    commits = queue.writer.commits
    assert await queue.bring_forward(NOW, NOW, NOW) == 1000
    assert queue.writer.commits - commits >= 1000 / 200


async def test_every_admin_query_is_sound_sql(connection):
    for query in queries("admin").values():
        assert plan(connection, query) is not None
