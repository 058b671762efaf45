"""Failures of one message in one run of delivery share a DSN, which is stored with their marks."""

import asyncio
import time

from relay.delivery import gathering, marker
from relay_queue.model import SuspensionKind
from relay_queue.protocol import QueueError, QueueFailedError
from relay_queue.states import State
from tests.support.answers import Delay
from tests.support.delivering import delivering
from tests.support.queues import a_put

FIVE = [f"r{n}@example.test" for n in range(5)]
ONE_EACH = ("LIMITS RCPTMAX=1",)
REFUSED = "550 5.1.1 no such user"


def watched(pair, monkeypatch):
    """What is handed to the queue from now on: (states marked, DSNs) of each call."""
    calls = []
    mark = pair.queue.mark

    def remember(marks, notices=()):
        calls.append((sorted(mark.state.word for mark in marks), len(notices)))
        return mark(marks, notices)

    monkeypatch.setattr(pair.queue, "mark", remember)
    return calls


def told(bench):
    """How many DSNs there were."""
    entries = [entry for entry, _ in bench.recorder.named("accepted")]
    assert len(entries) == len(bench.recorder.named("notified"))
    return len(entries)


def ends(pair, put):
    return sorted((ended.address, ended.state) for ended in pair.admin.ended(put.entry.message.id))


async def test_one_recipient_a_transaction_and_all_refused_is_one_dsn(pair, monkeypatch):
    calls = watched(pair, monkeypatch)
    async with delivering(pair, extra=ONE_EACH, rcpt=dict.fromkeys(FIVE, REFUSED)) as (bench, receiver):
        put = await bench.accept(*FIVE, sender="s@other.test")
        await bench.until(lambda: len(ends(pair, put)) == 5)
        assert sum(len(session.refused) for session in receiver.sessions) == 5
        assert ends(pair, put) == [(address, State.FAILED) for address in FIVE]
        assert calls[0] == (["failed"] * 5, 1), "one transaction"
        (notice,) = await receiver.wait(1)
        assert [f"Final-Recipient: rfc822;{address}".encode() in notice.content for address in FIVE] == [True] * 5
        assert told(bench) == 1


async def test_nothing_is_remembered_of_a_message_that_is_not_in_hand(pair):
    async with delivering(pair) as (bench, _):
        pair.admin.suspend(SuspensionKind.DOMAIN, "example.test", "maintenance", None, time.time())
        await bench.delivery.steering.reload_suspensions()
        await bench.router.route("example.test")
        await bench.accept(*FIVE)
        assert bench.states() == ["queued"] * 5
        assert not bench.delivery.marker._gathering._in_hand


async def test_failures_whose_message_cannot_be_read_are_asked_again(pair, monkeypatch):
    monkeypatch.setattr(marker, "_AGAIN", 0.2)
    head, failures = pair.queue.head, [QueueError("no descriptor is left")]

    async def at_the_second_time(message_id):
        if failures:
            raise failures.pop()
        return await head(message_id)

    monkeypatch.setattr(pair.queue, "head", at_the_second_time)
    async with delivering(pair, extra=ONE_EACH, rcpt=dict.fromkeys(FIVE, REFUSED)) as (bench, _):
        put = await bench.accept(*FIVE, sender="s@other.test")
        await bench.until(lambda: len(ends(pair, put)) == 5)
        assert not failures
        assert ends(pair, put) == [(address, State.FAILED) for address in FIVE]
        assert told(bench) == 1


async def test_what_is_delivered_does_not_wait_for_what_fails(pair):
    gate = asyncio.Event()
    answers = dict.fromkeys(FIVE, REFUSED) | {FIVE[1]: None, FIVE[4]: Delay(gate, REFUSED)}
    async with delivering(pair, extra=ONE_EACH, rcpt=answers) as (bench, receiver):
        put = await bench.accept(*FIVE)
        await bench.until(lambda: any(FIVE[4] in line for session in receiver.sessions for line in session.commands))
        await bench.until(lambda: ends(pair, put))
        assert ends(pair, put) == [(FIVE[1], State.DELIVERED)]
        assert bench.states() == ["active"] * 4, "a crash would have these four asked again"
        gate.set()
        await bench.until(lambda: len(ends(pair, put)) == 5)
        await bench.until(lambda: told(bench))
        assert told(bench) == 1


async def test_a_deferred_recipient_is_not_waited_for_until_its_next_attempt(pair):
    answers = dict.fromkeys(FIVE, "452 4.5.3 one at a time") | {FIVE[0]: REFUSED, FIVE[3]: REFUSED}
    async with delivering(pair, rcpt=answers, extra=ONE_EACH) as (bench, _):
        put = await bench.accept(*FIVE)
        await bench.until(lambda: len(ends(pair, put)) == 2)
        assert bench.states().count("queued") >= 3
        await bench.until(lambda: told(bench))
        assert told(bench) == 1


async def test_a_recipient_that_takes_for_ever_holds_up_no_dsn(pair, monkeypatch):
    monkeypatch.setattr(gathering, "_LONGEST", 0.3)
    gate = asyncio.Event()
    answers = dict.fromkeys(FIVE, REFUSED) | {FIVE[4]: Delay(gate, REFUSED)}
    async with delivering(pair, extra=ONE_EACH, rcpt=answers) as (bench, _):
        put = await bench.accept(*FIVE)
        await bench.until(lambda: len(ends(pair, put)) == 4)
        gate.set()
        await bench.until(lambda: len(ends(pair, put)) == 5)
        await bench.until(lambda: told(bench) == 2)


async def test_stopping_tells_what_was_gathered(pair, monkeypatch):
    calls = watched(pair, monkeypatch)
    answers = dict.fromkeys(FIVE, REFUSED) | {FIVE[4]: Delay(asyncio.Event(), REFUSED)}
    async with delivering(pair, extra=ONE_EACH, rcpt=answers) as (bench, receiver):
        put = await bench.accept(*FIVE)
        await bench.until(lambda: any(FIVE[4] in line for session in receiver.sessions for line in session.commands))
    assert ends(pair, put) == [(address, State.FAILED) for address in FIVE[:4]]
    assert (["failed"] * 4, 1) in calls
    assert told(bench) == 1


async def test_domains_without_a_route_share_a_dsn(pair, monkeypatch):
    calls = watched(pair, monkeypatch)
    async with delivering(pair) as (bench, _):
        put = await bench.accept("a@one.nowhere", "b@two.nowhere")
        await bench.until(lambda: len(ends(pair, put)) == 2)
        assert calls[0] == (["failed"] * 2, 1)


async def test_nobody_wants_to_be_told_and_nothing_waits(pair, monkeypatch):
    calls = watched(pair, monkeypatch)
    async with delivering(pair, extra=ONE_EACH, rcpt=REFUSED) as (bench, _):
        put = await bench.accept(*FIVE, recipient={"notify": "NEVER"})
        await bench.until(lambda: len(ends(pair, put)) == 5)
        assert calls == [(["failed"], 0)] * 5


async def test_claimed_recipients_of_several_domains_share_a_dsn(pair):
    gate = asyncio.Event()
    async with delivering(pair, extra=ONE_EACH, rcpt=Delay(gate, REFUSED)) as (bench, _):
        put = a_put("a@example.test", "b@other.test", recipient={"due_at": 0.0})
        await pair.queue.put(put)
        bench.delivery.due(None)
        await bench.until(lambda: bench.states() == ["active"] * 2)
        gate.set()
        await bench.until(lambda: len(ends(pair, put)) == 2)
        await bench.until(lambda: told(bench))
        assert told(bench) == 1


async def test_a_queue_that_fails_meanwhile_hangs_nothing(pair, monkeypatch):
    def broken(*_):
        raise QueueFailedError("fsync")

    answers = dict.fromkeys(FIVE, REFUSED) | {FIVE[4]: Delay(asyncio.Event(), REFUSED)}
    async with delivering(pair, extra=ONE_EACH, rcpt=answers) as (bench, receiver):
        await bench.accept(*FIVE)
        await bench.until(lambda: any(FIVE[4] in line for session in receiver.sessions for line in session.commands))
        monkeypatch.setattr(pair.queue, "mark", broken)
        async with asyncio.timeout(10):
            await bench.delivery.marker.flush()
        assert [where for where, _ in bench.recorder.named("problem")] == ["mark"]
        monkeypatch.undo()
