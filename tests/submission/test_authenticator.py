import asyncio
from concurrent.futures import Executor, Future

import pytest

from relay.model.peer import Identity
from relay.submission import authenticator as module
from relay.submission.authenticator import MOST_WAITING, REMEMBERED_FOR, Authenticator, BusyError, password_pool
from relay.submission.passwords import seal_password, seal_secret
from relay.submission.users import User, Users, editing

SECRET = "mfrggzdfmztwq2lknnwg23tpobyxe43u"  # fixed: it names test cases
PASSWORD = "correct horse"
CHOSEN = seal_password(PASSWORD)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class CountingPool(Executor):
    """Runs in real threads and counts."""

    def __init__(self):
        self.pool = password_pool()
        self.count = 0

    def submit(self, function, /, *arguments, **named):
        self.count += 1
        return self.pool.submit(function, *arguments, **named)


class HeldPool(Executor):
    """Starts nothing until it is told to."""

    def __init__(self):
        self.held = []

    def submit(self, function, /, *arguments, **named):
        future = Future()
        self.held.append((future, lambda: function(*arguments, **named)))
        return future


def user(name, credential, **more):
    return User(**{"name": name, "credential": credential, "senders": ("example.org",), "created_at": 1.0} | more)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "users.json"
    with editing(path) as users:
        users["app"] = user("app", seal_secret(SECRET))
        users["ann"] = user("ann", CHOSEN)
        users["off"] = user("off", CHOSEN, disabled=True)
    return path


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pool():
    pool = CountingPool()
    yield pool
    pool.pool.shutdown()


@pytest.fixture
def door(path, clock, pool):
    return Authenticator(Users(path), clock=clock, pool=pool)


async def test_the_right_secret_is_let_in_without_hashing(door, pool):
    assert await door.verify("app", SECRET) == Identity("app", ("example.org",))
    assert pool.count == 0


async def test_the_right_password_is_hashed_once_and_remembered(door, pool, clock):
    for _ in range(3):
        assert await door.verify("Ann", PASSWORD) == Identity("ann", ("example.org",))
    assert pool.count == 1
    clock.now += REMEMBERED_FOR + 1
    assert await door.verify("ann", PASSWORD) == Identity("ann", ("example.org",))
    assert pool.count == 2


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("app", "wrong password"),
        ("app", PASSWORD),
        ("ann", "wrong password"),
        ("ann", SECRET),
        ("off", PASSWORD),
        ("nobody", PASSWORD),
        ("nobody", SECRET),
        ("", PASSWORD),
        ("ann\0", PASSWORD),
        ("\udcff", PASSWORD),
    ],
)
async def test_every_refusal_costs_one_hash_each_time(door, pool, name, password):
    assert await door.verify(name, password) is None
    assert await door.verify(name, password) is None
    assert pool.count == 2


@pytest.mark.parametrize("password", ["", "a\0b", "x" * 100_000, "\udcff", "a\r\nb"])
async def test_what_is_no_password_is_refused_for_all_alike(door, pool, password):
    for name in ("app", "ann", "nobody"):
        assert await door.verify(name, password) is None
    assert pool.count == 0


async def test_an_endless_name_is_refused(door, pool):
    assert await door.verify("x" * 100_000, PASSWORD) is None
    assert pool.count == 0


async def test_a_wrong_password_after_the_right_one_is_refused(door):
    assert await door.verify("ann", PASSWORD) is not None
    assert await door.verify("ann", PASSWORD + "x") is None
    assert await door.verify("app", PASSWORD) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda users: users.pop("ann"),
        lambda users: users.update(ann=user("ann", seal_secret(SECRET))),
        lambda users: users.update(ann=user("ann", CHOSEN, disabled=True)),
    ],
)
async def test_a_change_counts_at_once(door, path, change):
    assert await door.verify("ann", PASSWORD) is not None
    with editing(path) as users:
        change(users)
    assert await door.verify("ann", PASSWORD) is None


async def test_changed_senders_count_at_once(door, path):
    assert await door.verify("ann", PASSWORD) == Identity("ann", ("example.org",))
    with editing(path) as users:
        users["ann"] = user("ann", CHOSEN, senders=("*",))
    assert await door.verify("ann", PASSWORD) == Identity("ann", ("*",), 1)


def test_only_a_right_generated_secret_is_recognised_without_the_windows(door):
    assert door.recognise("APP", SECRET) == Identity("app", ("example.org",))
    for name, password in (("app", "wrong"), ("ann", PASSWORD), ("off", SECRET), ("nobody", SECRET), ("app", "a\0")):
        assert door.recognise(name, password) is None


async def test_a_remembered_password_is_not_recognised(door):
    """Else guesses would be confirmed while the guesser has to wait."""
    assert await door.verify("ann", PASSWORD) is not None
    assert door.recognise("ann", PASSWORD) is None


@pytest.mark.parametrize(
    ("change", "senders"),
    [
        (lambda users: users.pop("ann"), None),
        (lambda users: users.update(ann=user("ann", seal_secret(SECRET))), None),
        (lambda users: users.update(ann=user("ann", CHOSEN, disabled=True)), None),
        (lambda users: users.update(ann=user("ann", CHOSEN, senders=("ann@example.org",))), ("ann@example.org",)),
        (lambda users: users.pop("app"), ("example.org",)),
    ],
    ids=["removed", "new password", "disabled", "fewer senders", "another user"],
)
async def test_a_login_holds_until_its_user_changes(door, path, change, senders):
    identity = await door.verify("ann", PASSWORD)
    assert door.current(identity) is identity
    with editing(path) as users:
        change(users)
    await asyncio.sleep(0.002)  # a look at the file counts for a millisecond
    current = door.current(identity)
    assert (None if current is None else current.senders) == senders
    if current is not None:
        assert door.current(current) is current


async def test_a_user_removed_and_added_again_must_log_in_again(door, path):
    identity = await door.verify("ann", PASSWORD)
    with editing(path) as users:
        old = users.pop("ann")
    await asyncio.sleep(0.002)
    assert door.current(identity) is None
    with editing(path) as users:
        users["ann"] = old
    await asyncio.sleep(0.002)
    assert door.current(identity) is None
    assert door.current(await door.verify("ann", PASSWORD)) is not None


async def test_a_change_while_the_hash_is_computed_counts(path, clock):
    pool = HeldPool()
    door = Authenticator(Users(path), clock=clock, pool=pool)
    waiting = asyncio.ensure_future(door.verify("ann", PASSWORD))
    await asyncio.sleep(0)
    with editing(path) as users:
        users["ann"] = user("ann", seal_password("another password"))
    ((future, run),) = pool.held
    future.set_result(run())
    assert await waiting is None


async def test_the_same_question_is_computed_once_and_a_cancelled_asker_harms_nobody(path, clock):
    pool = HeldPool()
    door = Authenticator(Users(path), clock=clock, pool=pool)
    askers = [asyncio.ensure_future(door.verify("ann", PASSWORD)) for _ in range(3)]
    other = asyncio.ensure_future(door.verify("ann", "wrong password"))
    await asyncio.sleep(0)
    assert len(pool.held) == 2
    askers[0].cancel()
    await asyncio.sleep(0)
    for future, run in pool.held:
        future.set_result(run())
    assert await asyncio.gather(*askers[1:], other) == [Identity("ann", ("example.org",))] * 2 + [None]
    assert askers[0].cancelled()


async def test_too_many_at_once_are_told_to_come_again(path, clock):
    pool = HeldPool()
    door = Authenticator(Users(path), clock=clock, pool=pool)
    waiting = [asyncio.ensure_future(door.verify("ann", f"guess number {guess}")) for guess in range(MOST_WAITING)]
    await asyncio.sleep(0)
    for name in ("ann", "app", "nobody"):
        with pytest.raises(BusyError):
            await door.verify(name, "one more guess")
    # Who is known already, or has a secret, is let in meanwhile.
    assert await door.verify("app", SECRET) is not None
    for future, _ in pool.held:
        future.set_result(False)
    assert set(await asyncio.gather(*waiting)) == {None}
    again = asyncio.ensure_future(door.verify("ann", "one more guess"))
    await asyncio.sleep(0)
    pool.held[-1][0].set_result(False)
    assert await again is None


async def test_what_is_remembered_is_bounded(path, clock, pool, monkeypatch):
    monkeypatch.setattr(module, "MOST_REMEMBERED", 2)
    with editing(path) as users:
        users.update({name: user(name, CHOSEN) for name in ("u1", "u2", "u3")})
    door = Authenticator(Users(path), clock=clock, pool=pool)
    for name in ("u1", "u2", "u1", "u3"):
        assert await door.verify(name, PASSWORD) is not None
    assert pool.count == 3
    assert await door.verify("u1", PASSWORD) is not None
    assert pool.count == 3
    assert await door.verify("u2", PASSWORD) is not None
    assert pool.count == 4
    assert len(door._remembered) == 2


async def test_no_password_is_kept_in_memory(door):
    await door.verify("ann", PASSWORD)
    assert PASSWORD not in repr(door._remembered)
    assert door._running == {}


async def test_the_loop_goes_on_while_a_hash_is_computed(door):
    asking = asyncio.ensure_future(door.verify("ann", PASSWORD))
    turns = 0
    while not asking.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 1
