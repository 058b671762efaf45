"""The server's face: the same tests on every backend."""

import asyncio
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from relay_queue.decide import MARKABLE
from relay_queue.model import Body, Destination, Put, Selection
from relay_queue.protocol import Action, BodyDamagedError, PendingAction, QueueError
from relay_queue.states import State
from tests.support.queues import NOW, a_mark, a_put, exists, in_hand, worker


async def test_a_put_message_comes_back_as_it_was(queue, admin):
    put = a_put(
        "Mixed.Case@example.test",
        "ü@xn--bcher-kva.test",
        recipient={"notify": "SUCCESS,DELAY", "orcpt": "rfc822;a+2Bb", "due_at": NOW + 5, "lane": "mx"},
        sender="",
        user="app",
        origin="cli",
        envid="a+20b",
        ret="HDRS",
        eightbit=True,
        smtputf8=True,
        size=77,
    )
    await queue.put(put)
    assert admin.show(put.entry.message.id) == put.entry
    assert await queue.head(put.entry.message.id) == put.body


async def test_the_same_id_is_refused_and_harms_no_other(queue, admin):
    first, second = a_put(), a_put()
    results = await asyncio.gather(queue.put(first), queue.put(first), queue.put(second), return_exceptions=True)
    assert results[0] is None
    assert isinstance(results[1], QueueError)
    assert results[2] is None
    assert len(list(admin.select(Selection()))) == 2


async def test_a_claim_takes_what_is_due_once_never_tried_first(queue):
    tried = a_put(recipient={"attempts": 2, "due_at": NOW - 50})
    fresh = [a_put(recipient={"due_at": NOW - n}) for n in range(3)]
    await asyncio.gather(*(queue.put(put) for put in [tried, *fresh, a_put(recipient={"due_at": NOW + 1})]))
    await queue.put(a_put("x@other.test"))
    first = await queue.claim(worker(1), Destination("example.test"), 2, NOW)
    assert [entry.message.id for entry in first] == [fresh[2].entry.message.id, fresh[1].entry.message.id]
    assert [(entry.recipients[0].state, entry.recipients[0].owner) for entry in first] == [(State.ACTIVE, 1)] * 2
    rest = await queue.claim(worker(2), Destination("example.test"), 10, NOW)
    assert [entry.message.id for entry in rest] == [fresh[0].entry.message.id, tried.entry.message.id]
    assert await queue.claim(worker(3), Destination("example.test"), 10, NOW) == []


async def test_a_claim_of_some_recipients_of_a_message(queue):
    put = a_put("a@x.test", "b@y.test", "c@x.test")
    await queue.put(put)
    (entry,) = await queue.claim(worker(1), Destination("x.test"), 10, NOW)
    assert [recipient.address for recipient in entry.recipients] == ["a@x.test", "c@x.test"]


async def test_due_tells_the_earliest_of_each_domain_in_order(queue):
    await queue.put(a_put("a@b.test", "b@b.test", recipient={"due_at": NOW + 9}))
    await queue.put(a_put("a@b.test", recipient={"due_at": NOW + 3, "attempts": 1}))
    await queue.put(a_put("a@c.test", "a@a.test", recipient={"due_at": NOW + 1}))
    await queue.put(in_hand("a@d.test"))
    assert await queue.due(NOW, None, 10) == [
        (Destination("a.test"), NOW + 1),
        (Destination("b.test"), NOW + 3),
        (Destination("c.test"), NOW + 1),
    ]
    assert await queue.due(NOW, Destination("a.test"), 1) == [(Destination("b.test"), NOW + 3)]
    assert await queue.due(NOW, Destination("c.test"), 10) == []


async def test_what_waits_for_too_long_is_brought_forward_and_nothing_else(queue, admin):
    tried = {"attempts": 2, "reply": "450 later"}
    puts = [
        a_put("a@x.test", "b@y.test", recipient={"due_at": NOW + 601}),
        a_put("c@x.test", recipient={"due_at": NOW + 600}),
        a_put("d@x.test", recipient={"due_at": NOW + 3601, **tried}),
        a_put("e@z.test", recipient={"due_at": NOW + 3600, **tried}),
        in_hand("f@x.test"),
        in_hand("g@x.test"),
    ]
    await asyncio.gather(*(queue.put(put) for put in puts))
    await queue.mark([a_mark(puts[5], State.QUEUED, due_at=NOW + 9000)])
    admin.steer(Action.HOLD, Selection(ids=(puts[5].entry.message.id,)), now=NOW)
    before = {r.address: r for entry in admin.select(Selection()) for r in entry.recipients}
    assert await queue.bring_forward(NOW + 600, NOW + 3600, NOW - 5) == 3
    after = {r.address: r for entry in admin.select(Selection()) for r in entry.recipients}
    brought_forward = {"a@x.test", "b@y.test", "d@x.test"}
    assert after == {name: replace(r, due_at=NOW - 5) if name in brought_forward else r for name, r in before.items()}
    assert sum(len(entry.recipients) for entry in await queue.claim(worker(1), Destination("x.test"), 9, NOW)) == 2
    assert await queue.bring_forward(NOW + 600, NOW + 3600, NOW) == 0


async def test_many_are_brought_forward_in_many_domains(queue, monkeypatch):
    monkeypatch.setattr("relay_queue.sqlite.store._FORWARD_PAGE", 7)
    for attempts in (0, 1):
        far = {"due_at": NOW + 9000, "attempts": attempts}
        await queue.put(a_put(*(f"u{n}@d{n % 50:02}.test" for n in range(1000)), recipient=far))
    assert await queue.bring_forward(NOW, NOW, NOW) == 2000
    assert await queue.due(NOW, None, 99) == [(Destination(f"d{n:02}.test"), NOW) for n in range(50)]


async def test_a_delivered_recipient_goes_to_the_history(queue, admin):
    put = in_hand("a@x.test", "b@y.test", user="app")
    await queue.put(put)
    assert await queue.mark([a_mark(put, State.DELIVERED, 0, lane="mx.x", remote="mx[192.0.2.1]")]) == []
    assert [recipient.n for recipient in admin.show(put.entry.message.id).recipients] == [1]
    (ended,) = admin.ended()
    assert (ended.address, ended.state, ended.user, ended.lane, ended.remote, ended.attempts, ended.failure) == (
        ("a@x.test", State.DELIVERED, "app", "mx.x", "mx[192.0.2.1]", 1, None)
    )
    assert (ended.received_at, ended.ended_at) == (put.entry.message.received_at, NOW + 10)
    assert await queue.mark([a_mark(put, State.FAILED, 1, reply="550 no", failure="unknown-user")]) == []
    assert admin.show(put.entry.message.id) is None
    with pytest.raises(BodyDamagedError):
        await queue.head(put.entry.message.id)


async def test_a_deferred_recipient_waits_with_what_was_said(queue, admin):
    put = in_hand()
    await queue.put(put)
    mark = a_mark(
        put, State.QUEUED, due_at=NOW + 300, reply="451 later", failure="greylisted", lane="mx.x", delay_notified=True
    )
    assert await queue.mark([mark]) == []
    (recipient,) = admin.show(put.entry.message.id).recipients
    assert (recipient.state, recipient.owner, recipient.attempts) == (State.QUEUED, None, 1)
    assert (recipient.due_at, recipient.changed_at) == (NOW + 300, NOW + 10)
    assert (recipient.reply, recipient.failure, recipient.lane) == ("451 later", "greylisted", "mx.x")
    assert recipient.delay_notified
    assert await queue.claim(worker(1), Destination("example.test"), 9, NOW + 299) == []
    assert len(await queue.claim(worker(1), Destination("example.test"), 9, NOW + 300)) == 1
    again = a_mark(put, State.QUEUED, due_at=NOW + 900, attempts=1, reply=None)
    assert await queue.mark([again]) == []
    (recipient,) = admin.show(put.entry.message.id).recipients
    assert (recipient.reply, recipient.failure, recipient.delay_notified) == ("451 later", "greylisted", True)


async def test_marks_of_others_hands_are_refused_and_change_nothing(queue, admin):
    mine, others, queued, gone = in_hand(), in_hand(owner=2), a_put(), a_put()
    for put in (mine, others, queued):
        await queue.put(put)
    marks = [a_mark(put, State.DELIVERED) for put in (others, mine, queued, gone)]
    assert await queue.mark(marks) == [marks[0], marks[2], marks[3]]
    assert await queue.mark([marks[1]]) == [marks[1]]
    assert [ended.message_id for ended in admin.ended()] == [mine.entry.message.id]
    assert len(list(admin.select(Selection()))) == 2


@pytest.mark.parametrize("state", sorted(MARKABLE))
async def test_a_mark_of_anothers_hands_is_refused_when_it_is_alone(queue, admin, state):
    """Nothing else in the batch gives it away."""
    others = in_hand(owner=2)
    await queue.put(others)
    mark = a_mark(others, state, due_at=NOW)
    assert await queue.mark([mark]) == [mark]
    assert admin.show(others.entry.message.id) == others.entry
    assert admin.ended() == []
    mark.owner = 2
    assert await queue.mark([mark]) == []


async def test_notices_are_stored_with_their_marks_and_not_without(queue, admin):
    failed, notice, other = in_hand(), a_put("from@sender.test", sender="", origin="dsn"), a_put()
    await queue.put(failed)
    mark = a_mark(failed, State.FAILED, reply="550 no")
    assert await queue.mark([mark], [notice]) == []
    assert admin.show(notice.entry.message.id) == notice.entry
    assert await queue.mark([mark], [other]) == [mark]
    assert admin.show(other.entry.message.id) is None


async def test_a_notice_that_cannot_be_stored_leaves_its_mark_undone(queue, admin):
    failed, notice = in_hand(), a_put()
    await queue.put(failed)
    await queue.put(notice)
    with pytest.raises(QueueError):
        await queue.mark([a_mark(failed, State.FAILED)], [notice])
    assert admin.ended() == []
    assert admin.show(failed.entry.message.id) == failed.entry


async def test_a_mark_that_the_table_of_states_does_not_know_is_a_bug(queue):
    put = in_hand()
    await queue.put(put)
    with pytest.raises(AssertionError):
        queue.mark([a_mark(put, State.ACTIVE)])


async def test_puts_that_could_not_come_back_are_bugs(queue):
    for recipient in ({"state": State.ACTIVE}, {"owner": 1}, {"state": State.HELD}, {"state": State.DELIVERED}):
        with pytest.raises(AssertionError):
            queue.put(a_put(recipient=recipient))
    put = a_put()
    with pytest.raises(AssertionError):
        queue.put(Put(type(put.entry)(put.entry.message, []), put.body))


async def test_recovery_gives_back_one_workers_or_all(queue, admin):
    mine, others = in_hand("a@x.test", "b@x.test"), in_hand(owner=2)
    await queue.put(mine)
    await queue.put(others)
    assert await queue.recover(await queue.lease("local", 1)) == 2
    assert await queue.recover(await queue.lease("local", 1)) == 0
    assert {recipient.state for recipient in admin.show(mine.entry.message.id).recipients} == {State.QUEUED}
    assert admin.show(others.entry.message.id).recipients[0].owner == 2
    assert await queue.recover_node("local") == 1
    (entry,) = await queue.claim(worker(1), Destination("x.test"), 9, NOW)
    assert len(entry.recipients) == 2


async def test_recovery_carries_out_wishes(queue, admin):
    puts = {action: in_hand() for action in (Action.HOLD, Action.DROP, Action.FAIL)}
    for action, put in puts.items():
        await queue.put(put)
        admin.steer(action, Selection(ids=(put.entry.message.id,)), now=NOW)
    assert await queue.recover(await queue.lease("local", 1)) == 3
    for action in (Action.HOLD, Action.FAIL):
        assert admin.show(puts[action].entry.message.id).recipients[0].state is State.HELD
    assert [(ended.message_id, ended.state) for ended in admin.ended()] == [
        (puts[Action.DROP].entry.message.id, State.DROPPED)
    ]


async def test_wishes_meet_marks(queue, admin):
    cases = [
        (Action.HOLD, State.QUEUED, State.HELD),
        (Action.HOLD, State.DELIVERED, State.DELIVERED),
        (Action.HOLD, State.QUARANTINED, State.QUARANTINED),
        (Action.DROP, State.QUEUED, State.DROPPED),
        (Action.DROP, State.HELD, State.DROPPED),
        (Action.DROP, State.FAILED, State.FAILED),
        (Action.FAIL, State.QUEUED, None),
        (Action.FAIL, State.FAILED, State.FAILED),
        (Action.FAIL, State.EXPIRED, State.EXPIRED),
    ]
    for action, marked, after in cases:
        put = in_hand()
        await queue.put(put)
        done = admin.steer(action, Selection(ids=(put.entry.message.id,)), now=NOW)
        assert (done.recipients, done.requested, done.messages) == (1, 1, 1)
        assert await queue.pending_actions(worker(1)) == [PendingAction(put.entry.message.id, 0, action, None)]
        assert await queue.pending_actions(worker(2)) == []
        mark = a_mark(put, marked)
        refused = await queue.mark([mark])
        assert refused == ([mark] if after is None else [])
        live, ended = admin.show(put.entry.message.id), admin.ended(put.entry.message.id)
        if after is None:
            assert live.recipients[0].state is State.ACTIVE
            assert await queue.mark([a_mark(put, State.FAILED)]) == []
        else:
            assert (live.recipients[0].state if live else ended[0].state) is after
        assert await queue.pending_actions(worker(1)) == []


async def test_a_large_body_is_kept_in_a_file_until_its_message_ends(queue, admin):
    file = queue.new_file()
    file.write(b"one" * 100_000)
    file.write(b"two")
    temporary = Path(file.name)
    assert exists(temporary)
    put = in_hand("a@x.test", "b@x.test")
    put = Put(put.entry, Body(b"Subject: x\r\n\r\n", temporary.name, 300_003))
    await queue.put(put)
    assert not exists(temporary)
    body = await queue.head(put.entry.message.id)
    for known in (body, put.body):
        with queue.open_file(known) as kept:
            path = os.readlink(f"/proc/self/fd/{kept.fileno()}")  # noqa: PTH115 -- a name, not a path to walk
            assert kept.read() == b"one" * 100_000 + b"two"
    assert b"".join(admin.body(put.entry.message.id)) == b"Subject: x\r\n\r\n" + b"one" * 100_000 + b"two"
    await queue.mark([a_mark(put, State.DELIVERED, 0)])
    assert exists(path)
    await queue.mark([a_mark(put, State.DELIVERED, 1)])
    await queue.due(NOW, None, 1)
    await queue.recover_node("local")
    assert not exists(path)


async def test_a_file_that_did_not_just_arrive_is_refused(queue):
    file = queue.new_file()
    file.write(b"x")
    put = a_put()
    with pytest.raises(QueueError):
        await queue.put(Put(put.entry, Body(b"", "0" * 26, 1)))
    with pytest.raises(QueueError):
        await queue.put(Put(put.entry, Body(b"", "../../etc/passwd", 1)))
    with pytest.raises(QueueError):
        await queue.put(Put(put.entry, Body(b"", Path(file.name).name, 2)))
    queue.discard_file(file)
    assert not exists(file.name)


async def test_leftover_files_are_removed_by_recovery(queue, pair):
    file = queue.new_file()
    file.write(b"x")
    file.close()
    put = a_put()
    kept = queue.new_file()
    kept.write(b"y")
    await queue.put(Put(put.entry, Body(b"", Path(kept.name).name, 1)))
    await queue.recover_node("local")
    assert not exists(file.name)
    with queue.open_file(await queue.head(put.entry.message.id)) as again:
        assert again.read() == b"y"


async def test_prune_forgets_the_oldest_of_the_history(queue, admin):
    for n in range(5):
        put = in_hand()
        await queue.put(put)
        await queue.mark([a_mark(put, State.DELIVERED, at=NOW + n)])
    assert await queue.prune(NOW + 3, limit=2) == 2
    assert await queue.prune(NOW + 3) == 1
    assert await queue.prune(NOW + 3) == 0
    assert [ended.ended_at for ended in admin.ended()] == [NOW + 4, NOW + 3]


async def test_a_closed_queue_refuses(queue):
    await queue.aclose()
    with pytest.raises(QueueError):
        queue.put(a_put())
    with pytest.raises(QueueError):
        queue.mark([])
    with pytest.raises(QueueError):
        await queue.due(NOW, None, 1)


async def test_what_was_handed_in_before_closing_is_done(queue, admin):
    puts = [a_put() for _ in range(300)]
    futures = [queue.put(put) for put in puts]
    await queue.aclose()
    await asyncio.gather(*futures)
    assert len(list(admin.select(Selection(), limit=None))) == 300


async def test_many_recipients_of_one_message(queue, admin):
    put = in_hand(*(f"u{n}@d{n % 7}.test" for n in range(1000)))
    await queue.put(put)
    assert await queue.mark([a_mark(put, State.QUEUED, n) for n in range(1000)]) == []
    assert len(admin.show(put.entry.message.id).recipients) == 1000
    assert sum(row.queued for row in admin.summary(Selection())) == 1000


async def test_marks_of_one_batch_that_meet_each_other(queue, admin):
    put = in_hand()
    await queue.put(put)
    first, second = a_mark(put, State.DELIVERED), a_mark(put, State.FAILED)
    results = await asyncio.gather(queue.mark([first]), queue.mark([second]))
    assert sorted(len(refused) for refused in results) == [0, 1]
    assert len(admin.ended()) == 1


async def test_two_workers_never_claim_the_same(pair):
    other = pair.again()
    try:
        await asyncio.gather(*(pair.queue.put(a_put()) for _ in range(100)))
        taken = await asyncio.gather(
            *(
                queue.claim(worker(slot), Destination("example.test"), 7, NOW)
                for _ in range(10)
                for slot, queue in ((1, pair.queue), (2, other))
            )
        )
        keys = [entry.message.id for entries in taken for entry in entries]
        assert len(keys) == len(set(keys)) == 100
    finally:
        await other.aclose()
