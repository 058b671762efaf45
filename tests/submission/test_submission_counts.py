"""Counts shared by workers: exact whoever counts, bounded, and never more let through than the limit."""

import os
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from relay.process.clients import SharedClients
from relay.smtp.server.connections import Connections
from relay.submission.counts import SharedCounts
from relay.submission.failures import AuthFailures, SharedFailures
from relay.submission.quota import Quota, shared_usage

NOW = 1_767_323_045.0


class Idle:
    """A connection that does nothing."""

    def shut_down(self): ...
    def abort(self): ...
    def hurry(self): ...


def forked(job) -> int:
    """Run `job` in a forked child; its result, up to 255."""
    pid = os.fork()
    if not pid:
        status = 255
        try:
            status = job()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_another_process_sees_what_one_counted():
    shared = SharedCounts(2, 64, 60)
    mine = shared.column(0)

    def child() -> int:
        shared.column(1).add("a", 3, 1000)
        return 0

    mine.add("a", 2, 1001)
    assert forked(child) == 0
    assert mine.since("a", 990) == [(1000, 3), (1001, 2)]
    assert mine.since("a", 1001) == [(1001, 2)]
    assert mine.since("b", 0) == []


def test_a_successor_goes_on_counting_in_the_same_column():
    shared = SharedCounts(2, 64, 60)
    shared.column(1).add("a", 3, 1000)
    successor = shared.column(1)
    successor.add("a", 1, 1000)
    assert shared.column(0).since("a", 1000) == [(1000, 4)]


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["a", "b", "c"]), st.integers(1, 5), st.integers(0, 3)),
        max_size=60,
    )
)
def test_they_are_what_a_plain_counter_says(events):
    shared = SharedCounts(3, 64, 10)
    workers = [shared.column(n) for n in range(3)]
    plain: Counter[tuple[str, int]] = Counter()
    step = 100
    for worker, key, count, later in events:
        step += later
        workers[worker].add(key, count, step)
        plain[key, step] += count
        first = step - 9
        for reader in workers:
            seen = Counter()
            for at, number in reader.since(key, first):
                seen[at] += number
            assert seen == {at: n for (name, at), n in plain.items() if name == key and at >= first}


def test_names_are_not_in_the_memory():
    shared = SharedCounts(1, 64, 60)
    shared.column(0).add("somebody@example.org", 1, 1000)
    assert b"somebody" not in shared.columns[0].tobytes()


def test_when_full_the_one_least_recently_counted_goes():
    shared = SharedCounts(1, 8, 60)
    counts = shared.column(0)
    for number in range(9):
        counts.add(str(number), 1, 1000 + number)
    assert counts.since("0", 0) == []
    assert all(counts.since(str(number), 0) == [(1000 + number, 1)] for number in range(1, 9))


def test_counts_do_not_overflow_into_the_time():
    counts = SharedCounts(1, 8, 60).column(0)
    counts.add("a", 1 << 40, 1000)
    assert counts.since("a", 0) == [(1000, (1 << 32) - 1)]
    counts.add("a", -(1 << 40), 1000)
    assert counts.since("a", 0) == []


def _at_once(child, go: int) -> list[int]:
    """Run `child` in four processes that begin when all are there; what each returns."""
    children = []
    for slot in range(4):
        pid = os.fork()
        if not pid:
            os._exit(child(slot))
        children.append(pid)
    os.write(go, b"1234")
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]


def test_processes_that_count_at_once_never_pass_a_limit_together():
    """Counting first and looking at after, each lets through what it may; all together at most the limit."""
    shared = shared_usage(4)
    ready, go = os.pipe()

    def child(slot: int) -> int:
        quota = Quota(shared.column(slot))
        os.read(ready, 1)
        passed = 0
        for _ in range(200):
            quota.add("u", 1, 1, NOW)
            if quota.messages_wait("u", 0, 100, NOW):
                quota.add("u", -1, -1, NOW)
            else:
                passed += 1
        return passed

    passed = sum(_at_once(child, go))
    os.close(ready)
    os.close(go)
    # Refused is only what finds 100 with at most three others in between.
    assert 97 <= passed <= 100


def test_a_column_can_be_cleared_for_a_successor():
    shared = SharedCounts(2, 64, 1)
    shared.column(0).add("a", 1, 0)
    shared.column(1).add("a", 2, 0)
    shared.clear(1)
    assert shared.column(0).since("a", 0) == [(0, 1)]


def test_what_had_to_make_room_is_not_taken_back_from_others():
    shared = SharedCounts(1, 8, 1)
    counts = shared.column(0)
    for number in range(9):
        counts.add(str(number), 1, 0)
    counts.add("0", -1, 0)
    assert sum(bool(counts.since(str(number), 0)) for number in range(9)) == 8


def test_connections_taken_at_once_by_several_workers_never_pass_the_cap_of_a_client():
    shared = SharedClients(4, 1000)
    ready, go = os.pipe()

    def child(slot: int) -> int:
        connections = Connections(shared.column(slot))
        os.read(ready, 1)
        for _ in range(2000):
            connection = Idle()
            if connections.add(connection, "192.0.2.1", 1000, 1):
                # The only place: nobody else may have it at the same time.
                if shared.column(slot).total("192.0.2.1") > 4:
                    return 99
                connections.remove(connection, "192.0.2.1")
        return sum(connections.add(Idle(), "192.0.2.1", 1000, 60) for _ in range(40))

    taken = _at_once(child, go)
    os.close(ready)
    os.close(go)
    # A refusal may come a little early, where others look at the same moment; never too late.
    assert 57 <= sum(taken) <= 60
    assert shared.column(0).total("192.0.2.1") == sum(taken)
    for slot in range(4):
        shared.forget(slot)
    assert shared.column(0).total("192.0.2.1") == 0


def test_connections_of_the_last_minute_count_together_and_outlive_a_worker():
    shared = SharedClients(2, 1000)
    one, other = shared.column(0), shared.column(1)
    assert [one.arrived("192.0.2.1", NOW), other.arrived("192.0.2.1", NOW + 20), one.arrived("192.0.2.2", NOW)] == [
        1,
        2,
        1,
    ]
    shared.forget(0)
    assert other.arrived("192.0.2.1", NOW + 45) == 3
    assert one.arrived("192.0.2.1", NOW + 90) == 2, "those of the last minute"


def test_failed_logins_at_several_workers_count_together():
    shared = SharedFailures(2)
    one, other = AuthFailures(shared, 0), AuthFailures(shared, 1)
    for number in range(5):
        one.failed("192.0.2.1", f"u{number}", "guess", NOW)
        other.failed("192.0.2.1", f"v{number}", "guess", NOW)
    assert one.wait("192.0.2.1", "w", 10, NOW) > 0
    assert other.wait("192.0.2.1", "w", 10, NOW) > 0
    for number in range(100):
        one.failed(f"198.51.100.{number}", "alice", "guess", NOW)
    assert other.wait("203.0.113.9", "alice", 10, NOW) > 0
    one.succeeded("203.0.113.9", "alice", NOW)
    assert other.wait("203.0.113.9", "alice", 10, NOW) == 0
