"""What one client can make the log and the store grow by is bounded, and what is left out is counted."""

import asyncio
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.events.bounds import bounded
from relay.events.catalog import Accepted, Problem, Process, Refused
from relay.events.format import json_fields, logfmt_fields
from relay.events.log import EventLog
from relay.events.per_client import OTHERS, ClientLimiter, Omission
from relay.model.peer import Identity, Peer, TlsFailure
from relay.smtp.reply import Reply
from relay_config.schema import Limits
from tests.support.event_log import ID, MESSAGE, PEER, RECIPIENTS

STRANGER = Peer("192.0.2.66", 4711, "0.0.0.0:25", helo="c.test")
REFUSAL = Reply(550, "5.7.1", "no")


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_long_values_are_cut_in_both_formats_and_in_the_store(make, form):
    case = make(format=form)
    helo, command, user = "h" * 2000, "MAIL FROM:<" + "\\" * 2000 + ">", "u" * 9000
    case.log.refused(msgspec.structs.replace(STRANGER, helo=helo), command, REFUSAL)
    case.log.authenticated(STRANGER, user, success=False)
    lines = case.lines()
    assert all(len(line) < 2500 for line in lines)
    assert all("…" in line for line in lines)
    refused, failed = case.stored()
    assert refused["helo"] == "h" * 511 + "…"
    assert refused["command"] == command[:511] + "…"
    assert failed["user"] == "u" * 511 + "…"


def test_ids_and_addresses_are_never_cut():
    address = "l" * 64 + "@" + "d" * 190 + ".test"
    event = Accepted(id="i" * 600, sender=address, recipients=(address,) * 20, count=20, size=1, origin="smtp")
    assert bounded(event) is event


def test_what_needs_room_has_it():
    event = Problem(where="here", error="e" * 5000, trace="t" * 50_000)
    cut = bounded(event)
    assert (len(cut.error), len(cut.trace)) == (1000, 16_000)
    assert len(bounded(Refused(peer="p", command="c", reply="r" * 5000, listener="l")).reply) == 1000
    details = bounded(Process(what="reload refused", details={"reason": "r" * 5000, "pid": 7})).details
    assert details == {"reason": "r" * 511 + "…", "pid": 7}


@pytest.mark.parametrize("char", ["\\", "x", "\U0001f600", "\U000e0041", "\u202e", "\x7f", '"'])
def test_escapes_make_no_value_long(char):
    event = Refused(peer="192.0.2.1", command=char * 2040, reply="550", listener="l")
    assert len(json_fields(bounded(event))) < 2200


@given(st.text(max_size=700), st.text(max_size=700))
def test_a_record_that_is_not_looked_at_has_no_long_value(helo, command):
    """The log looks at records whose JSON is longer than any value may be."""
    event = Refused(peer="192.0.2.1", command=command, reply="550", listener="l", helo=helo)
    if len(json_fields(event)) <= 512:
        assert bounded(event) == event
    short = bounded(event)
    assert max(len(short.helo), len(short.command)) <= 512
    assert logfmt_fields(short).isprintable()


def limited(case, most):
    """Takes the new limit as a reload does."""
    case.log.reload(msgspec.structs.replace(case.settings, limits=Limits(client_events=most)))


def test_refusals_of_a_client_are_recorded_up_to_a_number_and_then_counted(make):
    case = make()
    limited(case, 10)
    for _ in range(1244):
        case.log.refused(STRANGER, "RCPT TO:<a@b.test>", REFUSAL)
    case.log.authenticated(STRANGER, "app", success=False)
    case.log.tls_failed(STRANGER, TlsFailure("no"))
    case.log.refused(PEER, "RCPT TO:<a@b.test>", REFUSAL)
    case.clock.now += 60
    case.log.refused(STRANGER, "RCPT TO:<c@d.test>", REFUSAL)
    names = [event["event"] for event in case.stored()]
    assert names == ["refused"] * 11 + ["omitted"] * 3 + ["refused"]
    omitted = case.stored()[11:14]
    assert [(event["peer"], event["what"], event["count"], event["level"]) for event in omitted] == [
        ("192.0.2.66", "refused", 1234, "info"),
        ("192.0.2.66", "authentication-failed", 1, "warning"),
        ("192.0.2.66", "tls-failed", 1, "info"),
    ]
    assert omitted[0]["message"] == "… and 1,234 more"
    assert 'what=refused count=1234 message="… and 1,234 more"' in case.path.read_text()


def test_what_is_counted_at_the_end_is_reported_too(make):
    case = make()
    limited(case, 1)
    for _ in range(3):
        case.log.refused(STRANGER, "x", REFUSAL)
    case.log.close()
    assert [event.get("count") for event in case.stored()] == [None, 2]


async def test_the_minute_ends_by_itself(make, monkeypatch):
    monkeypatch.setattr("relay.events.log.WINDOW", 0.2)
    case = make()
    limited(case, 1)
    for _ in range(3):
        case.log.refused(STRANGER, "x", REFUSAL)
    await asyncio.sleep(0.5)
    text = case.path.read_text()
    assert text.count("event=refused") == 1
    assert "event=omitted" in text


def test_logins_mail_and_outcomes_are_not_limited(make):
    case = make()
    limited(case, 1)
    for _ in range(50):
        case.log.authenticated(STRANGER, "app", success=True)
        case.log.notified("failure", MESSAGE, ID)
    assert len(case.stored()) == 100


def test_no_limit(make):
    case = make()
    limited(case, 0)
    for _ in range(500):
        case.log.refused(STRANGER, "x", REFUSAL)
    assert len(case.stored()) == 500


def test_an_ipv6_network_is_one_client(make):
    case = make()
    limited(case, 5)
    for number in range(50):
        case.log.refused(Peer(f"2001:db8::{number:x}", 1, "[::]:25"), "x", REFUSAL)
    case.clock.now += 60
    case.log.refused(STRANGER, "x", REFUSAL)
    (omitted,) = [event for event in case.stored() if event["event"] == "omitted"]
    assert (omitted["peer"], omitted["count"]) == ("2001:db8::/64", 45)


def test_many_strangers_hide_neither_users_nor_trusted_clients(make):
    case = make()
    limited(case, 5)
    for number in range(1000):
        case.log.refused(Peer(f"192.0.{number >> 8}.{number & 255}", 1, "0.0.0.0:25"), "x", REFUSAL)
    trusted = Peer("10.0.0.1", 1, "0.0.0.0:25", trusted=True)
    user = Peer("198.51.100.1", 1, "0.0.0.0:25", identity=Identity("app"))
    for peer in (trusted, user):
        for _ in range(9):
            case.log.refused(peer, "x", REFUSAL)
    case.log.close()
    events = case.stored()
    recorded = [event["peer"] for event in events if event["event"] == "refused"]
    assert len(recorded) == 60
    assert recorded[50:] == ["10.0.0.1"] * 5 + ["198.51.100.1"] * 5
    omitted = {event["peer"]: event["count"] for event in events if event["event"] == "omitted"}
    assert sum(omitted.values()) == 950 + 8
    assert len(omitted) == 21, "a flood of addresses is no flood of counts"
    assert omitted[OTHERS] == 950 - 18


def test_the_memory_for_clients_is_bounded():
    limiter = ClientLimiter()
    limiter.limit = 1
    for number in range(30_000):
        limiter.admit(f"client{number}", "refused", 1.0, stranger=False)
    assert len(limiter._recorded) <= 10_001
    assert len(limiter._omitted) <= 10_001
    assert limiter.take() == [Omission(OTHERS, "refused", 19_999)]
    assert limiter.take() == []


def test_a_clock_set_back_ends_the_minute():
    limiter = ClientLimiter()
    limiter.limit = 1
    assert limiter.over(1000.0)
    assert limiter.admit("a", "refused", 1000.0, stranger=True)
    assert not limiter.over(1059.9)
    assert limiter.over(1060.0)
    assert limiter.over(10.0)


SEGMENT = 64 * 1024


def with_size(case, most):
    history = msgspec.structs.replace(case.settings.history, events_size=most)
    return msgspec.structs.replace(case.settings, history=history, workers=1)


def sizes(case):
    return {path.name: path.stat().st_size for path in (case.folder / "data" / "events").iterdir()}


def write(case, count):
    for number in range(count):
        case.log.notified("failure", MESSAGE, f"{number:0400}")


def test_the_store_stays_within_its_size_and_keeps_the_newest(make):
    case = make(level="error")
    case.log.reload(with_size(case, 1 << 20))
    write(case, 10_000)
    case.log.close()
    found = sizes(case)
    assert sum(found.values()) <= (1 << 20) + 2 * SEGMENT
    assert sum(found.values()) > 1 << 19
    assert max(found.values()) < 2 * SEGMENT
    numbers = [int(event["dsn"]) for event in case.stored_in_order()]
    assert numbers == list(range(numbers[0], 10_000))


def test_a_new_process_goes_on_in_the_last_segment(make):
    case = make(level="error")
    case.log.reload(with_size(case, 1 << 30))
    case.log.reload(with_size(case, 1 << 20))
    write(case, 300)
    case.log.close()
    before = sizes(case)
    again = EventLog(with_size(case, 1 << 20), "3", clock=case.clock)
    again.notified("failure", MESSAGE, "last")
    again.close()
    after = sizes(case)
    assert set(after) == set(before)
    assert case.stored_in_order()[-1]["dsn"] == "last"


def test_the_oldest_go_first_and_what_is_being_written_stays(make):
    case = make(level="error")
    folder = case.folder / "data" / "events"
    folder.mkdir(parents=True)
    names = [
        "2023-11-10-0.jsonl",
        "2023-11-12-3.jsonl",
        "2023-11-12-3.10.jsonl",
        "2023-11-12-3.9.jsonl",
        "2023-11-13-0.jsonl",
        "2023-11-14-0.jsonl",
        "2023-11-14-0.1.jsonl",
        "2023-11-14-cli.jsonl",
        "2031-01-01-supervisor.jsonl",
    ]
    for name in names:
        (folder / name).write_bytes(b"x" * 400_000)
    (folder / "notes.txt").write_bytes(b"x" * 5_000_000)

    def left(most):
        case.log.reload(with_size(case, most))
        case.log.prune(0.0)
        return sorted(path.name for path in folder.iterdir() if path.suffix == ".jsonl")

    assert left(3_600_000) == sorted(names)
    assert left(3_200_000) == sorted(names[1:])
    assert left(2_800_000) == sorted(names[2:])
    assert left(2_400_000) == sorted([*names[2:3], *names[4:]]), "segments are numbers, not text"
    kept = ["2023-11-12-3.10.jsonl", "2023-11-13-0.jsonl", *names[6:]]
    assert left(1 << 20) == sorted(kept), "the last ones of each process, today and the day before"
    assert (folder / "notes.txt").exists()


def test_the_default_suits_the_disk(make, monkeypatch):
    from relay.events import segments

    case = make()
    assert 0 < segments.most_bytes(case.folder, case.settings) <= 4 << 30
    assert segments.most_bytes(case.folder / "missing", case.settings) == 4 << 30


def test_events_of_all_segments_are_read_in_order(make):
    from relay.events.read import Query, last, read

    case = make(level="error")
    case.log.reload(with_size(case, 4 << 20))
    write(case, 4000)
    case.log.close()
    assert len(sizes(case)) > 10
    numbers = [int(event["dsn"]) for event in read(case.folder / "data")]
    assert numbers == list(range(4000))
    assert [int(event["dsn"]) for event in last(case.folder / "data", 2, Query(kinds=("notified",)))] == [3998, 3999]


def test_recipients_of_a_message_are_shown_up_to_twenty(make):
    """With the longest addresses there are, a line has a bound as well."""
    from relay_queue.model import Entry

    case = make()
    long = [msgspec.structs.replace(one, address="r" * 251 + ".test") for one in RECIPIENTS]
    case.log.accepted(Entry(MESSAGE, long), PEER)
    (event,) = case.stored()
    assert event["to"] == ["r" * 251 + ".test"] * 20
    assert len(json.dumps(event)) < 6000
