"""Reading the store back."""

import json
import random
import threading

import pytest

from relay.events.read import Query, follow, last, read

DAY = 86_400.0
NOW = 1_700_000_000.0


def write(folder, name, *events, tail=b""):
    (folder / "events").mkdir(exist_ok=True)
    with (folder / "events" / name).open("ab") as file:
        for event in events:
            file.write(json.dumps(event).encode() + b"\n")
        file.write(tail)


def event(when, **fields):
    return {"time": when, "event": "delivered", **fields}


def numbers(events):
    return [event["n"] for event in events]


def test_no_store_is_no_events(tmp_path):
    assert list(read(tmp_path)) == []


def test_workers_are_merged_by_time(tmp_path):
    for n in range(100):
        write(tmp_path, f"2023-11-{14 + n // 50}-{random.Random(n).randrange(3)}.jsonl", event(NOW + n, n=n))
    write(tmp_path, "2023-11-15-supervisor.jsonl", event(NOW + 1000, n=100))
    assert numbers(read(tmp_path)) == list(range(101))
    assert numbers(last(tmp_path, 5)) == [96, 97, 98, 99, 100]


@pytest.mark.parametrize(
    "damage", [b'{"time": 1, "ev', b"\n\n", b"\xff\xfe\n", b"[1]\n", b'{"event":"x"}\n', b'{"time":"x"}\n', b"\0" * 100]
)
def test_damage_is_passed_over(tmp_path, damage):
    write(tmp_path, "2023-11-14-0.jsonl", event(NOW, n=0), tail=damage + b"\n")
    write(tmp_path, "2023-11-14-0.jsonl", event(NOW + 1, n=1), tail=damage)
    assert numbers(read(tmp_path)) == [0, 1]


FILTERS = [
    (Query(message_id="idA"), [0, 3]),
    (Query(message_id="id"), []),
    (Query(address="A@Example.org"), [0, 1]),
    (Query(address="b@example.org"), [0, 2]),
    (Query(kinds=("failed", "deferred")), [2]),
    (Query(since=NOW + 1), [1, 2, 3]),
    (Query(until=NOW + 1), [0]),
    (Query(since=NOW + 1, until=NOW + 2, kinds=("delivered",), address="a@example.org"), [1]),
]


@pytest.mark.parametrize(("query", "expected"), FILTERS)
def test_filters(tmp_path, query, expected):
    write(
        tmp_path,
        "2023-11-14-0.jsonl",
        {
            "time": NOW,
            "event": "accepted",
            "n": 0,
            "id": "idA",
            "from": "a@example.org",
            "to": ["x@x", "B@example.org"],
        },
        event(NOW + 1, n=1, id="idB", to="a@EXAMPLE.org", **{"from": "c@example.org"}),
        {"time": NOW + 2, "event": "failed", "n": 2, "id": "idC", "from": "", "to": "b@example.org"},
        {"time": NOW + 3, "event": "notified", "n": 3, "id": "idD", "dsn": "idA"},
    )
    assert numbers(read(tmp_path, query)) == expected


def test_only_the_days_asked_for_are_opened(tmp_path):
    for day in range(10, 20):
        write(tmp_path, f"2023-11-{day}-0.jsonl", event(NOW + (day - 14) * DAY, n=day))
    for day in (10, 19):
        (tmp_path / "events" / f"2023-11-{day}-0.jsonl").unlink()
        (tmp_path / "events" / f"2023-11-{day}-0.jsonl").mkdir()
    assert numbers(read(tmp_path, Query(since=NOW, until=NOW + 2 * DAY))) == [14, 15]


def test_following(tmp_path):
    write(tmp_path, "2023-11-14-0.jsonl", event(NOW, n=0))
    steps = [
        lambda: None,
        lambda: write(tmp_path, "2023-11-14-0.jsonl", event(NOW + 2, n=2), tail=b'{"time": 1700000003'),
        lambda: write(tmp_path, "2023-11-14-0.jsonl", tail=b'.0, "n": 3}\n'),
        lambda: [
            write(tmp_path, "2023-11-14-1.jsonl", event(NOW + 5, n=5)),
            write(tmp_path, "2023-11-14-0.jsonl", event(NOW + 4, n=4)),
        ],
        (tmp_path / "events" / "2023-11-14-0.jsonl").unlink,
        lambda: write(tmp_path, "2023-11-14-0.jsonl", event(NOW + 6, n=6)),
        lambda: None,
    ]
    done = threading.Event()

    def sleep(_):
        steps.pop(0)()
        if not steps:
            done.set()

    assert numbers(follow(tmp_path, sleep=sleep, stop=done.is_set)) == [2, 3, 4, 5, 6]


def test_following_filters(tmp_path):
    (tmp_path / "events").mkdir()
    looks = iter(range(2))

    def sleep(_):
        write(tmp_path, "2023-11-14-0.jsonl", event(NOW, n=0, id="idA"), event(NOW, n=1, id="idB"))

    events = follow(tmp_path, Query(message_id="idB"), sleep=sleep, stop=lambda: next(looks, None) is None)
    assert numbers(events) == [1, 1]


TRACED = [
    event(NOW, n=0, event="accepted", id="idA", message_id="<a\\x@b.test>"),
    event(NOW + 1, n=1, id="idA"),
    event(NOW + 2, n=2, event="accepted", id="idB", message_id="<other@b.test>"),
    event(NOW + 3, n=3, id="idB"),
    event(NOW + 4, n=4, event="accepted", id="idC", message_id="<a\\x@b.test>"),
    event(NOW + 5, n=5, event="notified", id="idB", dsn="idC"),
    event(NOW + 6, n=6, event="refused", command="<a\\x@b.test>"),
]


@pytest.mark.parametrize("given", ["<a\\x@b.test>", "a\\x@b.test", " <a\\x@b.test> "])
def test_all_messages_with_a_message_id_are_found_by_it(tmp_path, given):
    for n, one in enumerate(TRACED):
        write(tmp_path, f"2023-11-14-{n % 2}.jsonl", one, tail=b'{"message_id":"<a\\\\x@b.test>"}\n[]\n')
    assert numbers(read(tmp_path, Query(header_id=given))) == [0, 1, 4, 5]
    assert numbers(read(tmp_path, Query(header_id=given, since=NOW + 1, kinds=("delivered",)))) == [1]
    assert numbers(read(tmp_path, Query(header_id=given, message_id="idC"))) == [4, 5]
    assert list(read(tmp_path, Query(header_id=given.upper()))) == []
    assert list(read(tmp_path, Query(header_id=""))) == []


def test_a_message_id_is_followed(tmp_path):
    write(tmp_path, "2023-11-14-0.jsonl", *TRACED[:1])
    turns = iter([TRACED[1:3], TRACED[3:5], TRACED[5:], []])

    def sleep(_):
        write(tmp_path, "2023-11-14-0.jsonl", *next(turns))

    rounds = iter([False] * 4 + [True])
    query = Query(header_id="a\\x@b.test", kinds=("delivered", "notified"))
    assert numbers(follow(tmp_path, query, sleep=sleep, stop=lambda: next(rounds))) == [1, 5]
