"""One worker's delivery on a real queue, with real DNS and receivers, in one process."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from relay.delivery import scanner, steering
from relay.model.notices import Due, Notice
from relay_config.words import Rate
from relay_queue.model import Body, Destination, Put, Selection, SuspensionKind
from relay_queue.protocol import Action, QueueError
from relay_queue.states import State
from tests.support.answers import Close, Delay, Hang
from tests.support.delivering import BODY, Bench, delivering
from tests.support.queues import Pair, a_put


async def test_mail_goes_from_memory_and_ends_in_the_history(pair):
    async with delivering(pair) as (bench, receiver):
        put = await bench.accept("a@example.test", "b@example.test")
        await receiver.wait(1)
        await bench.until(lambda: not bench.states())
        assert [ended.state for ended in pair.admin.ended(put.entry.message.id)] == [State.DELIVERED] * 2
        assert len(bench.recorder.named("outcome")) == 2


async def test_mail_that_waits_in_the_queue_is_found(pair):
    async with delivering(pair) as (bench, receiver):
        await pair.queue.put(a_put("a@example.test", body=BODY, received_at=time.time(), recipient={"due_at": 0.0}))
        bench.delivery.due(Destination("example.test"))
        await receiver.wait(1)


async def test_the_scanner_finds_it_without_being_told(pair):
    async with delivering(pair) as (bench, receiver):
        assert bench.states() == []
        await pair.queue.put(a_put("a@example.test", body=BODY, received_at=time.time(), recipient={"due_at": 0.0}))
        await receiver.wait(1, 5)


async def test_a_scan_during_which_the_machine_stood_still_is_not_followed_by_a_long_pause(pair, monkeypatch):
    monkeypatch.setattr(scanner, "_REST_MOST", 0.1)
    due, scans = pair.queue.due, 0

    async def slow(*arguments):
        nonlocal scans
        scans += 1
        if scans == 1:
            await asyncio.sleep(0.5)
        return await due(*arguments)

    monkeypatch.setattr(pair.queue, "due", slow)
    async with delivering(pair) as (_, receiver):
        await asyncio.sleep(0.3)
        put = a_put("a@example.test", body=BODY, received_at=time.time(), recipient={"due_at": time.time() + 0.5})
        await pair.queue.put(put)
        await receiver.wait(1, 5)


async def test_more_than_a_window_overflows_into_the_queue_and_still_arrives(pair, monkeypatch):
    monkeypatch.setattr("relay.delivery.lane.WINDOW_MOST", 3)
    async with delivering(pair, content=Delay(0.01)) as (bench, receiver):
        await bench.router.route("example.test")
        for n in range(20):
            await bench.accept(f"user{n}@example.test")
        assert "queued" in bench.states()
        await receiver.wait(20)
        await bench.until(lambda: not bench.states())
        assert sorted(receiver.recipients()) == sorted(f"user{n}@example.test" for n in range(20))


async def test_bodies_in_memory_are_bounded(pair):
    async with delivering(pair, content=Delay(0.01)) as (bench, receiver):
        bench.delivery.budget.most = 3 * len(BODY)
        await bench.router.route("example.test")
        for n in range(20):
            await bench.accept(f"user{n}@example.test")
            assert bench.delivery.budget.used <= 3 * len(BODY)
        await receiver.wait(20)


async def test_bodies_that_wait_for_a_route_are_bounded_too(pair):
    async with delivering(pair) as (bench, receiver):
        bench.delivery.budget.most = 3 * len(BODY)
        for n in range(20):
            await bench.accept(f"user{n}@example.test")
            assert bench.delivery.budget.used <= 3 * len(BODY)
        await receiver.wait(20)
        assert bench.delivery.budget.used == 0


def _at_content(receiver):
    """Whether a message is on the wire: what only waits for its connection could still be taken back."""
    return receiver.sessions and "DATA" in receiver.sessions[0].commands


async def test_a_wish_is_carried_out_on_mail_that_waits_in_a_lane(pair):
    gate = asyncio.Event()
    async with delivering(pair, content=Delay(gate)) as (bench, receiver):
        await bench.accept("first@example.test")
        await bench.until(lambda: _at_content(receiver))
        puts = {name: await bench.accept(f"{name}@example.test") for name in ("hold", "drop", "fail", "stay")}
        for action in (Action.HOLD, Action.DROP, Action.FAIL):
            chosen = Selection(ids=(puts[action.value].entry.message.id,))
            assert pair.admin.steer(action, chosen, now=time.time(), reason=f"to {action.value}").requested == 1
        await bench.delivery.steering.carry_out()
        await bench.until(lambda: bench.states().count("held") == 1)
        gate.set()
        await receiver.wait(2)
        await bench.until(lambda: [r[1] for r in bench.recorder.named("notified")] != [])
        assert sorted(receiver.recipients()) == ["first@example.test", "stay@example.test"]
        (kind, about, _) = bench.recorder.named("notified")[0]
        assert (kind, about.id) == ("failure", puts["fail"].entry.message.id)
        (dropped,) = pair.admin.ended(puts["drop"].entry.message.id)
        assert (dropped.state, dropped.reason, dropped.reply) == (State.DROPPED, "to drop", None)
        (held,) = pair.admin.show(puts["hold"].entry.message.id).recipients
        assert (held.reason, held.reply) == ("to hold", None)
        told = {mark.state: (recipient.reason, mark.reply) for _, recipient, mark in bench.recorder.named("outcome")}
        assert (told[State.HELD], told[State.DROPPED]) == (("to hold", None), ("to drop", None))
        assert told[State.FAILED] == ("to fail", None)


async def test_a_wish_to_fail_takes_over_when_the_attempt_on_the_wire_is_deferred(pair):
    gate = asyncio.Event()
    async with delivering(pair, content=Delay(gate, "450 4.2.1 busy")) as (bench, receiver):
        put = await bench.accept("a@example.test")
        await bench.until(lambda: _at_content(receiver))
        pair.admin.steer(Action.FAIL, Selection(ids=(put.entry.message.id,)), now=time.time(), reason="mistyped")
        await bench.delivery.steering.carry_out()
        gate.set()
        await bench.until(lambda: pair.admin.ended(put.entry.message.id))
        (ended,) = pair.admin.ended(put.entry.message.id)
        assert (ended.state, ended.reason) == (State.FAILED, "mistyped")
        await bench.until(lambda: len(bench.recorder.named("notified")) == 1)


async def test_a_delivery_wins_over_a_wish_to_drop(pair):
    gate = asyncio.Event()
    async with delivering(pair, content=Delay(gate)) as (bench, receiver):
        put = await bench.accept("a@example.test")
        await bench.until(lambda: _at_content(receiver))
        pair.admin.steer(Action.DROP, Selection(ids=(put.entry.message.id,)), now=time.time())
        gate.set()
        await receiver.wait(1)
        await bench.until(lambda: pair.admin.ended(put.entry.message.id))
        assert [ended.state for ended in pair.admin.ended(put.entry.message.id)] == [State.DELIVERED]


async def test_a_suspension_gives_waiting_mail_back_and_its_end_resumes(pair):
    gate = asyncio.Event()
    async with delivering(pair, content=Delay(gate)) as (bench, receiver):
        await bench.accept("first@example.test")
        await bench.until(lambda: _at_content(receiver))
        await bench.accept("second@example.test")
        suspension = pair.admin.suspend(SuspensionKind.DOMAIN, "example.test", "maintenance", None, time.time())
        await bench.delivery.steering.reload_suspensions()
        await bench.until(lambda: "queued" in bench.states())
        assert bench.delivery.budget.used == 0, "what was given back takes no memory"
        gate.set()
        await receiver.wait(1)
        await bench.until(lambda: bench.states() == ["queued"])
        pair.admin.resume([suspension.id])
        await bench.delivery.steering.reload_suspensions()
        await receiver.wait(2)


async def _fail(failures: list[Exception]):
    raise failures.pop()


@pytest.mark.parametrize(("kind", "value"), [("domain", "example.test"), ("site", "mx.test"), ("user", "app")])
async def test_a_suspension_ends_in_time(pair, kind, value, monkeypatch):
    suspensions = pair.queue.suspensions
    async with delivering(pair) as (bench, receiver):
        pair.admin.suspend(SuspensionKind(kind), value, "gone already", time.time() - 1, time.time())
        await bench.delivery.steering.reload_suspensions()
        await bench.accept("a@example.test", user="app")
        await receiver.wait(1)
        pair.admin.suspend(SuspensionKind(kind), value, "for a moment", time.time() + 0.5, time.time())
        await bench.delivery.steering.reload_suspensions()
        failures = [QueueError("no descriptor is left")]
        monkeypatch.setattr(steering, "_AGAIN", 0.1)
        monkeypatch.setattr(pair.queue, "suspensions", lambda: _fail(failures) if failures else suspensions())
        await bench.accept("b@example.test", user="app")
        await bench.until(lambda: bench.states() == ["queued"])
        await receiver.wait(2)
        assert receiver.messages[1].at - receiver.messages[0].at > 0.4


async def test_mail_of_a_suspended_user_waits(pair):
    pair.admin.suspend(SuspensionKind.USER, "spammer", "compromised", None, time.time())
    async with delivering(pair) as (bench, receiver):
        await bench.accept("a@example.test", user="spammer")
        await bench.accept("b@example.test", user="honest")
        await receiver.wait(1)
        await bench.until(lambda: bench.states() == ["queued"])
        assert receiver.recipients() == ["b@example.test"]


async def test_what_waits_shares_the_failure_of_its_site_and_says_so(pair):
    async with delivering(pair, greeting="421 4.3.2 closing for maintenance") as (bench, _):
        for n in range(5):
            await bench.accept(f"user{n}@example.test")

        def replies() -> list[str]:
            return [entry.recipients[0].reply or "" for entry in pair.admin.select(Selection(), None)]

        await bench.until(lambda: all("maintenance" in reply for reply in replies()))
        assert bench.states() == ["queued"] * 5
        assert [args[1] for args in bench.recorder.named("lane")] == ["paused"]


async def test_stopping_gives_back_what_was_not_sent(pair):
    async with delivering(pair, content=Hang()) as (bench, receiver):
        for n in range(4):
            await bench.accept(f"user{n}@example.test")
        await bench.until(lambda: _at_content(receiver))
        await bench.delivery.stop(0.1)
        await bench.until(lambda: bench.states() == ["queued"] * 4)


async def test_a_stop_does_not_wait_for_a_site_that_never_greets(pair):
    async with delivering(pair, greeting=Hang()) as (bench, receiver):
        await bench.accept("a@example.test")
        await bench.until(lambda: receiver.sessions)
        async with asyncio.timeout(4):  # less than the greeting's own time-out, far less than the grace
            await bench.delivery.stop(60)
        assert bench.states() == ["queued"]


async def test_a_worker_leaves_to_others_what_is_theirs(pair):
    notices: list[tuple[Notice, int]] = []
    async with delivering(pair) as (bench, receiver):
        await bench.delivery.stop(0.1)
        from relay.delivery.ownership import ranking

        owner = ranking("mx.test", 2)[0]
        other = bench.delivery = bench.make(1 - owner, workers=2, notify=lambda *told: notices.append(told))
        await bench.router.route("example.test")
        await bench.accept("a@example.test")
        assert notices == [(Due(Destination("example.test")), owner)]
        assert bench.states() == ["queued"]
        mine = bench.make(owner, workers=2)
        mine.due(Destination("example.test"))
        await receiver.wait(1)
        await mine.stop(0.1)
        await other.stop(0.1)


async def test_an_unknown_domain_fails_with_a_dsn(pair):
    async with delivering(pair) as (bench, _):
        put = await bench.accept("a@nowhere.test")
        await bench.until(lambda: pair.admin.ended(put.entry.message.id))
        assert pair.admin.ended(put.entry.message.id)[0].state is State.FAILED
        await bench.until(lambda: len(bench.recorder.named("notified")) == 1)


async def test_after_halt_nothing_more_is_started(pair):
    async with delivering(pair) as (bench, receiver):
        bench.delivery.halt()
        await bench.accept("a@example.test")
        await asyncio.sleep(0.2)
        assert receiver.sessions == []
        assert bench.states() == ["queued"]


async def large(pair: Pair, size: int) -> Put:
    """A stored message whose body lies in a file of 720,000 octets; `size` is what its row says."""
    file = pair.queue.new_file()
    file.write(b"0123456789abcdef\r\n" * 40_000)
    put = a_put("a@example.test", body=BODY, received_at=time.time(), recipient={"due_at": 0.0}, size=size)
    await pair.queue.put(Put(put.entry, Body(put.body.head, Path(file.name).name, 720_000)))
    return put


async def test_a_large_body_damaged_on_disk_is_quarantined_and_never_delivered(pair, tmp_path):
    async with delivering(pair) as (bench, receiver):
        await large(pair, len(BODY) + 720_000)
        (stored,) = [path for path in (tmp_path / "queue" / "bodies").rglob("*") if path.is_file()]
        with stored.open("r+b") as kept:
            kept.seek(300_000)
            kept.write(b"\x00")
        bench.delivery.due(Destination("example.test"))
        await bench.until(lambda: bench.states() == ["quarantined"])
        assert receiver.messages == []
        assert "damaged" in (next(pair.admin.select(Selection(), None)).recipients[0].reply or "")


async def all_gone(bench: Bench) -> None:
    """Everything ended well, at the first attempt, and the memory for it was given back."""
    await bench.until(lambda: not bench.states())
    marks = [mark for _, _, mark in bench.recorder.named("outcome")]
    assert all((mark.state, mark.attempts) == (State.DELIVERED, 1) for mark in marks), marks
    assert bench.delivery.budget.used == 0


async def test_a_peers_limit_of_messages_for_a_session_is_kept(pair):
    async with delivering(pair, extra=("LIMITS MAILMAX=2",)) as (bench, receiver):
        for n in range(5):
            await bench.accept(f"user{n}@example.test")
        await all_gone(bench)
        carried = [sum(line.startswith("MAIL") for line in session.commands) for session in receiver.sessions]
        assert carried == [2, 2, 1]


async def test_a_peers_limit_of_recipients_is_kept(pair):
    async with delivering(pair, extra=("LIMITS RCPTMAX=2",)) as (bench, receiver):
        await bench.accept(*(f"user{n}@example.test" for n in range(5)))
        await all_gone(bench)
        assert [len(message.recipients) for message in receiver.messages] == [2, 2, 1]
        assert sorted(receiver.recipients()) == [f"user{n}@example.test" for n in range(5)]


async def test_a_peers_limit_of_domains_is_kept(pair):
    async with delivering(pair, extra=("LIMITS RCPTDOMAINMAX=1 RCPTMAX=100",)) as (bench, receiver):
        await bench.router.route("example.test")
        await bench.router.route("other.test")
        await bench.accept("a@example.test", "b@other.test", "c@example.test", "d@other.test")
        await all_gone(bench)
        domains = [
            {
                r.address.partition("@")[2]
                for message in receiver.messages
                if message.session is s
                for r in message.recipients
            }
            for s in receiver.sessions
        ]
        assert domains == [{"example.test"}, {"other.test"}]
        assert [len(message.recipients) for message in receiver.messages] == [2, 2]


async def test_a_reused_connection_that_turns_out_dead_costs_no_attempt(pair):
    def hang_up(session, _argument):
        return Close(None, reset=True) if session.commands.count("DATA") == 1 else None

    async with delivering(pair, mail=hang_up) as (bench, receiver):
        await bench.accept("a@example.test")
        await receiver.wait(1)
        await bench.until(lambda: not bench.states())
        await bench.accept("b@example.test")
        await all_gone(bench)
        assert len(receiver.sessions) == 2


@pytest.mark.parametrize("wrong_by", [-1, 1, -500_000])
async def test_a_large_body_of_another_size_than_its_message_says_is_quarantined(pair, wrong_by):
    async with delivering(pair) as (bench, receiver):
        await large(pair, len(BODY) + 720_000 + wrong_by)
        bench.delivery.due(Destination("example.test"))
        await bench.until(lambda: bench.states() == ["quarantined"])
        assert receiver.messages == []
        assert "bytes, not" in (next(pair.admin.select(Selection(), None)).recipients[0].reply or "")


async def test_mail_that_cannot_be_read_for_want_of_a_thread_waits_and_does_not_stay_in_hand(pair):
    async with delivering(pair) as (bench, receiver):
        exhausted = ThreadPoolExecutor()
        exhausted.shutdown()
        asyncio.get_running_loop().set_default_executor(exhausted)  # refuses as one that can't start a thread does
        await large(pair, len(BODY) + 720_000)
        bench.delivery.due(Destination("example.test"))
        await bench.until(lambda: bench.states() == ["queued"] and bench.recorder.named("problem"))
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
        assert "can't be read" in (next(pair.admin.select(Selection(), None)).recipients[0].reply or "")
        assert receiver.messages == []


BULK = "bulk"


async def test_a_transactional_message_leaves_within_two_slots_of_a_site_that_bulk_mail_waits_for(pair):
    async with delivering(pair) as (bench, receiver):
        await bench.delivery.stop(0.1)
        throttle = replace(bench.settings.throttle, rate=Rate(10, 1))
        bench.settings = replace(bench.settings, throttle=throttle)
        bench.delivery = bench.make()
        await bench.delivery.start()
        bulk = a_put(*(f"bulk{n}@example.test" for n in range(3000)), body=BODY, received_at=time.time(), stream=BULK)
        for recipient in bulk.entry.recipients:
            recipient.stream, recipient.due_at = BULK, 0.0
        bench.settings = replace(bench.settings, delivery=replace(bench.settings.delivery, recipients_per_message=1))
        bench.delivery.reload(bench.settings)
        await pair.queue.put(bulk)
        bench.delivery.due(Destination("example.test", BULK))
        await receiver.wait(5)
        put = a_put("now@example.test", body=BODY, received_at=time.time())
        bench.delivery.admit(put)
        await pair.queue.put(put)
        before = len(receiver.messages)
        bench.delivery.offer(put)
        await bench.until(lambda: "now@example.test" in receiver.recipients())
        # One that was on the wire, one whose slot had come, and the message itself.
        assert receiver.recipients().index("now@example.test") <= before + 2


async def test_a_message_that_must_not_leave_before_a_time_waits_for_it_in_the_queue(pair):
    async with delivering(pair) as (bench, receiver):
        await bench.router.route("example.test")
        at = time.time() + 0.5
        put = await bench.accept("later@example.test", not_before=at)
        assert bench.states() == ["queued"]
        await receiver.wait(1, 5)
        assert put.entry.recipients[0].due_at == at
        assert receiver.messages[0].at >= 0


async def test_a_message_with_an_expiry_of_its_own_is_given_up_then(pair):
    async with delivering(pair, rcpt="450 4.2.1 busy") as (bench, _):
        put = await bench.accept("a@example.test", expires_at=time.time() - 1, recipient={"attempts": 1})
        await bench.until(lambda: pair.admin.ended(put.entry.message.id))
        assert pair.admin.ended(put.entry.message.id)[0].state is State.EXPIRED
