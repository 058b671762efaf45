import threading

from relay_queue import ids


def test_ids_sort_by_time_and_have_the_form_of_ids():
    made = [ids.new_id(1_900_000_000 + n / 1000) for n in range(1000)]
    assert made == sorted(made)
    assert all(ids.is_id(one) for one in made)


def test_ids_grow_when_the_clock_goes_back():
    first = ids.new_id(2_000_000_000.0)
    later = [ids.new_id(1_000_000_000.0) for _ in range(1000)]
    assert [first, *later] == sorted({first, *later})


def test_an_id_is_a_uuid_of_version_7():
    value = int(ids.new_id(2_100_000_000.123), 32)
    assert value >> 80 == 2_100_000_000_123
    assert value >> 76 & 15 == 7
    assert value >> 62 & 3 == 2


def test_ids_of_many_threads_differ():
    made: list[str] = []

    def make():
        made.extend(ids.new_id(2_000_000_000.0) for _ in range(2000))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8000


def test_what_is_no_id():
    good = ids.new_id()
    for bad in ("", good[:-1], good + "0", good.upper(), "z" + good[1:], "../" + good[3:], good[:-1] + "\n"):
        assert bad == good or not ids.is_id(bad)
