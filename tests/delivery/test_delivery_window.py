"""A lane's window: which work is next, and how many bytes it holds. No loop, no clock."""

from collections import Counter

from relay.delivery.window import Budget, Window
from relay.delivery.work import Work
from relay_config.schema import Settings, Stream
from relay_config.streams import Streams
from relay_queue.model import Body, Message

STREAMS = {"news": Stream(weight=3), "digest": Stream(weight=1), "alarm": Stream(priority=50)}


def work(n: int, stream: str = "transactional", body: bytes = b"") -> Work:
    return Work(Message(id=str(n), received_at=0, sender="", size=1, stream=stream), [], Body(body) if body else None)


def window(budget: Budget | None = None) -> Window:
    return Window(Streams(Settings(hostname="relay.test", stream=STREAMS)), budget or Budget(1000))


def taken(made: Window, count: int) -> list[str]:
    return [made.take().message.stream for _ in range(count)]


def test_works_of_one_stream_leave_in_their_order():
    made = window()
    for n in range(3):
        made.add(work(n))
    assert [made.take().message.id for _ in range(3)] == ["0", "1", "2"]
    assert not made


def test_a_higher_priority_always_comes_first():
    made = window()
    for n in range(3):
        made.add(work(n, "bulk"))
    made.add(work(9))
    made.add(work(10, "alarm"))
    assert taken(made, 5) == ["alarm", "transactional", "bulk", "bulk", "bulk"]


def test_equal_priorities_share_by_weight_from_the_start():
    made = window()
    for n in range(400):
        made.add(work(n, "news"))
        made.add(work(n, "digest"))
    counted = Counter(taken(made, 40))
    assert counted == {"news": 30, "digest": 10}


def test_a_stream_that_was_silent_does_not_make_up_for_it():
    made = window()
    for n in range(200):
        made.add(work(n, "news"))
    taken(made, 100)
    for n in range(100):
        made.add(work(n, "digest"))
    assert Counter(taken(made, 40))["digest"] <= 11


def test_what_is_put_back_is_the_next_of_its_stream():
    made = window()
    made.add(work(1))
    made.add(work(2))
    first = made.take()
    made.put_back(first)
    assert [made.take().message.id for _ in range(2)] == ["1", "2"]


def test_bytes_are_counted_in_and_out():
    budget = Budget(10)
    made, other = window(budget), window(budget)
    one, two, three = work(1, body=b"12345"), work(2, body=b"123"), work(3, body=b"123")
    made.add(one)
    made.add(two)
    assert budget.room
    other.add(three)
    assert (budget.used, budget.room) == (11, False)
    assert made.take() is one
    made.remove(two)
    assert other.drain() == [three]
    assert (budget.used, made.size, other.size) == (0, 0, 0)


def test_new_weights_and_priorities_count_at_once():
    made = window()
    for n in range(4):
        made.add(work(n, "news"))
        made.add(work(n, "digest"))
    made.reload(Streams(Settings(hostname="relay.test", stream=STREAMS | {"digest": Stream(priority=60)})))
    assert taken(made, 4) == ["digest"] * 4
