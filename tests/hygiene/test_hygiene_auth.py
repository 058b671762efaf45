"""AUTH against the whole relay: what each bad attempt gets, and how guessing is slowed down."""

import asyncio
import base64
import os
import random
import signal
import statistics
import time
from pathlib import Path

import msgspec
import pytest

from relay.submission.passwords import Credential, seal_password, seal_secret
from relay.submission.users import FILE, User, editing
from tests.support.raw_smtp import RawClient
from tests.support.running import until
from tests.support.whole import CHOSEN, PASSWORD, PERSON, USER, Whole, plain, secure, whole


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


async def secured(relay: Whole, client: RawClient) -> RawClient:
    await secure(client)
    assert await client.code("EHLO c.test") == 250
    return client


@pytest.mark.parametrize("stranger", [True, False], ids=["stranger", "trusted"])
@pytest.mark.parametrize("listener", ["submit", "optional", "open"])
async def test_it_is_neither_offered_nor_taken_in_plaintext(relay: Whole, listener: str, stranger: bool):
    async with relay.client(listener, stranger=stranger) as client:
        assert "AUTH" not in await client.say("EHLO c.test")
        for line in (f"AUTH PLAIN {plain(USER, PASSWORD)}", "AUTH PLAIN AHVzZXIAcGFzcw==", "AUTH PLAIN", "AUTH LOGIN"):
            assert await client.code(line) in {538, 530, 503, 504}
        assert await client.code("RCPT TO:<a@b.test>") == 503


async def test_there_is_none_where_it_is_off(relay: Whole):
    """As on port 25: not within TLS either."""
    async with relay.client("open", stranger=True) as client:
        await secure(client)
        assert "AUTH" not in await client.say("EHLO c.test")
        assert await client.code(f"AUTH PLAIN {plain(USER, PASSWORD)}") == 503
        assert await client.code("MAIL FROM:<app@sender.test>") == 250
        assert await client.code("RCPT TO:<a@rcpt.test>") == 550


async def test_mail_before_a_login(relay: Whole):
    async with relay.client("submit") as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code("MAIL FROM:<a@b.test>") == 530
        await secured(relay, client)
        assert await client.code("MAIL FROM:<a@b.test>") == 530
        assert await client.code("RCPT TO:<a@b.test>") == 503
        assert await client.code("DATA") == 503


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        ("AUTH", {501, 504}),
        ("AUTH PLAIN !!!!", {501}),
        ("AUTH PLAIN AHVzZXI", {501}),
        ("AUTH PLAIN " + b64(b"no separators"), {501}),
        ("AUTH PLAIN =", {501}),
        ("AUTH PLAIN " + b64(b"\0app\0pass") + " more", {501}),
        ("AUTH CRAM-MD5", {504}),
        ("AUTH XOAUTH2 " + b64(b"x"), {504}),
        ("AUTH PLAIN " + plain(USER, "wrong"), {535}),
        ("AUTH PLAIN " + plain("nobody", PASSWORD), {535}),
        ("AUTH PLAIN " + b64(f"root\0{USER}\0{PASSWORD}".encode()), {535}),
        ("AUTH PLAIN " + b64(b"\0\xff\xfe\0pass"), {535}),
        ("AUTH PLAIN " + b64(b"\0app\0\xff\xfe"), {535}),
        ("AUTH PLAIN " + b64(f"{USER}\0{USER}\0{PASSWORD}".encode()), {235}),
        ("AUTH LOGIN " + b64(b"app") + "\r\n*", {501}),
        ("AUTH PLAIN\r\n*", {501}),
        ("AUTH PLAIN\r\n!!!", {501}),
        ("AUTH PLAIN " + b64(b"\0" + b"u" * 4500 + b"\0" + b"p" * 4500), {535}),
        ("AUTH PLAIN " + "A" * 13_000, {500}),
        ("AUTH PLAIN\r\n" + "A" * 12_284, {501}),
        ("AUTH PLAIN\r\n" + "A" * 12_287, {500}),
        ("AUTH PLAIN " + "A" * (12_288 - 13), {501}),
        ("AUTH PLAIN " + "A" * (12_288 - 12), {500}),
        ("AUTH PLA\u0131N " + plain(USER, PASSWORD), {504}),
        ("AUTH PLAIN \u00fc", {501}),
        ("AUTH PLAIN\r\n\u00fc", {501}),
        ("AUTH PLAIN " + b64(b"\0app\0x\0y"), {501}),
        ("AUTH PLAIN " + b64(b"\0\0"), {535}),
        ("AUTH PLAIN " + b64(b"\0app\nx\0pass"), {535}),
        ("AUTH PLAIN " + b64("\0app\u202e\0pass".encode()), {535}),
        ("AUTH PLAIN " + b64(f"\0{USER}\0{PASSWORD}".encode()).replace("=", "") + "=", {501}),
        ("AUTH PLAIN\r\n" + plain(USER, PASSWORD) + " ", {501}),
        ("AUTH PLAIN\r\n ", {501}),
        ("AUTH PLAIN\r\nQUIT", {501}),
        ("AUTH LOGIN " + b64(b"\xff\xfe") + "\r\n" + b64(b"pass"), {535}),
        ("AUTH LOGIN " + b64(USER.encode()) + "\r\nAUTH PLAIN", {501}),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
async def test_attempts(relay: Whole, line: str, codes: set[int]):
    async with relay.client("submit", stranger=True) as client:
        await secured(relay, client)
        first, _, second = line.partition("\r\n")
        code = await client.code(first)
        if second:
            assert code == 334
            code = await client.code(second)
        assert code in codes
        assert await client.code("NOOP") == 250
        assert await client.code("MAIL FROM:<app@sender.test>") == (250 if code == 235 else 530)


async def test_order(relay: Whole):
    async with relay.user() as client:
        assert await client.code(f"AUTH PLAIN {plain(USER, PASSWORD)}") == 503
        assert await client.code("MAIL FROM:<app@sender.test>") == 250
        assert await client.code(f"AUTH PLAIN {plain(USER, PASSWORD)}") == 503
        assert await client.code("RSET") == 250
    async with relay.client("optional") as client:
        await secured(relay, client)
        assert await client.code("MAIL FROM:<app@sender.test>") == 250
        assert await client.code(f"AUTH PLAIN {plain(USER, PASSWORD)}") == 503


async def test_a_megabyte(relay: Whole):
    async with relay.client("submit", stranger=True) as client:
        await secured(relay, client)
        client.send(b"AUTH PLAIN ")
        for _ in range(16):
            client.send(b"A" * 65536)
        client.send(b"\r\n")
        assert (await client.reply())[:3] in {"500", "421"}


async def test_three_failures_end_the_connection(relay: Whole):
    async with relay.client("submit", stranger=True) as client:
        await secured(relay, client)
        codes = [await client.code(f"AUTH PLAIN {plain(USER, f'guess{n}')}") for n in range(3)]
        assert codes == [535, 535, 535]
        assert (await client.rest()).startswith("421 4.7.0 ")


async def test_guesses_of_all_kinds_count_together_also_when_sent_at_once(relay: Whole):
    """The right password behind three wrong ones, all in one segment, is not even looked at."""
    async with relay.client("submit", stranger=True) as client:
        await secured(relay, client)
        login = f"AUTH LOGIN {b64(USER.encode())}\r\n{b64(b'guess')}\r\n"
        other = f"AUTH PLAIN {b64(f'root{chr(0)}{USER}{chr(0)}{PASSWORD}'.encode())}\r\n"
        exchange = f"AUTH PLAIN\r\n{plain(USER, 'guess')}\r\n"
        client.send(f"{login}{other}{exchange}AUTH PLAIN {plain(USER, PASSWORD)}\r\nNOOP\r\n".encode())
        codes = [line[:3] for line in (await client.rest()).splitlines()]
        assert codes == ["334", "535", "535", "334", "535", "421"]


async def test_a_login_is_done_before_what_follows_it(relay: Whole):
    """Pipelined behind AUTH, MAIL waits for the verdict, whichever it is."""
    for password, codes in ((PASSWORD, ["235", "250"]), ("wrong", ["535", "530"])):
        async with relay.client("submit", stranger=True) as client:
            await secured(relay, client)
            client.send(f"AUTH PLAIN {plain(USER, password)}\r\nMAIL FROM:<app@sender.test>\r\n".encode())
            assert [(await client.reply())[:3] for _ in codes] == codes


@pytest.mark.parametrize("command", ["VRFY app", "VRFY nobody", "EXPN app", "EXPN list"])
async def test_nothing_is_told_of_users(relay: Whole, command: str):
    async with relay.client("open", stranger=True) as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code(command) in {252, 502}


async def test_one_that_must_wait_and_guesses_on_is_sent_away(strict: Whole):
    for n in range(6):
        await guess(strict, f"other{n}", "wrong", "127.0.0.73")
    async with strict.client("submit", stranger=False, source="127.0.0.73") as client:
        await secured(strict, client)
        codes = [await client.code(f"AUTH PLAIN {plain(PERSON, CHOSEN)}") for n in range(3)]
        assert codes == [454, 454, 454]
        assert (await client.rest()).startswith("421 4.7.0 ")


async def guess(relay: Whole, user: str, password: str, source: str = "127.0.0.70") -> str:
    """One attempt on a connection of its own; its reply."""
    async with relay.client("submit", source=source) as client:
        await secured(relay, client)
        return await client.say(f"AUTH PLAIN {plain(user, password)}")


@pytest.fixture(name="strict", scope="module")
def _strict(tmp_path_factory: pytest.TempPathFactory):
    """A relay of two workers with the default windows and small quotas."""
    limits = {"free_disk": "1MiB", "auth_failures_per_minute": 6, "messages_per_hour": 10, "recipients_per_hour": 40}
    with whole(tmp_path_factory.mktemp("strict"), workers=2, limits=limits) as running:
        yield running


async def test_guessing_from_one_address_is_counted_over_all_workers(strict: Whole):
    replies = [await guess(strict, f"user{n}", "wrong", "127.0.0.71") for n in range(12)]
    assert [reply[:9] for reply in replies] == ["535 5.7.8"] * 6 + ["454 4.7.0"] * 6
    assert "try again in" in replies[-1]
    assert (await guess(strict, PERSON, CHOSEN, "127.0.0.71")).startswith("454"), "not even the right one is confirmed"
    assert (await guess(strict, PERSON, CHOSEN, "127.0.0.72")).startswith("235"), "others are not kept out"


async def test_guessing_one_user_from_one_address_keeps_out_nobody_elsewhere(strict: Whole):
    replies = [await guess(strict, PERSON, f"wrong {n}", "127.0.0.76") for n in range(12)]
    assert [reply[:3] for reply in replies] == ["535"] * 6 + ["454"] * 6
    assert (await guess(strict, PERSON, CHOSEN, "127.0.0.76")).startswith("454"), "the guesser waits"
    assert (await guess(strict, PERSON, CHOSEN, "127.0.0.77")).startswith("235")


async def test_a_right_generated_secret_always_passes(strict: Whole):
    """Whatever others guessed, at this user or others, elsewhere or at the same address: it cannot be guessed."""
    for source in ("127.0.0.78", "127.0.0.79"):
        replies = [await guess(strict, USER, f"wrong {n}", source) for n in range(8)]
        assert [reply[:3] for reply in replies] == ["535"] * 6 + ["454"] * 2
        assert (await guess(strict, f"nobody {source}", "wrong", source)).startswith("454")
    for source in ("127.0.0.78", "127.0.0.79", "127.0.0.80"):
        for _ in range(3):
            assert (await guess(strict, USER, PASSWORD, source)).startswith("235")


async def test_an_old_password_does_not_keep_out_its_neighbours(strict: Whole):
    """Behind one address: applications with the right passwords, and one that tries its old one without end."""
    for user in (USER, PERSON):
        replies = [await guess(strict, user, "the old one", "127.0.0.81") for _ in range(10)]
        assert [reply[:3] for reply in replies] == ["535"] * 6 + ["454"] * 4
    assert (await guess(strict, "nobody", "wrong", "127.0.0.81")).startswith("535"), "two guesses were made so far"
    assert (await guess(strict, USER, PASSWORD, "127.0.0.81")).startswith("235")
    assert (await guess(strict, USER, "the old one", "127.0.0.82")).startswith("535")
    assert (await guess(strict, PERSON, CHOSEN, "127.0.0.82")).startswith("235")


def add_user(relay: Whole, name: str, credential: Credential) -> str:
    """One that no other test guessed at."""
    with editing(relay.data_dir / FILE) as users:
        users[name] = User(name=name, credential=credential, senders=("*",), created_at=time.time())
    return name


async def test_guessing_one_user_from_many_addresses(strict: Whole):
    person = add_user(strict, "person-of-many", seal_password(CHOSEN))
    assert (await guess(strict, person, CHOSEN, "127.0.0.80")).startswith("235")
    sources = [f"127.0.1.{n + 1}" for n in range(11) for _ in range(6)]
    replies = await asyncio.gather(*(guess(strict, person, f"wrong {n}", one) for n, one in enumerate(sources[:54])))
    assert {reply[:3] for reply in replies} == {"535"}
    assert (await guess(strict, person, CHOSEN, "127.0.2.1")).startswith("235"), "nine addresses keep out nobody"
    for n, source in enumerate(sources[54:60], 54):
        await guess(strict, person, f"wrong {n}", source)
    assert (await guess(strict, person, CHOSEN, "127.0.2.2")).startswith("454"), "a stranger waits"
    for _ in range(6):
        # By now both workers have been asked, and only one saw the login.
        assert (await guess(strict, person, CHOSEN, "127.0.0.80")).startswith("235"), "who knows the password does not"
    assert (await guess(strict, USER, PASSWORD, "127.0.2.2")).startswith("235"), "neither do other users"


async def test_guessing_a_user_that_is_not_there_looks_the_same(strict: Whole):
    """Else the wait would tell who exists; spelling and case are no way around it."""
    add_user(strict, "alike-app", seal_secret(PASSWORD))
    add_user(strict, "alike-person", seal_password(CHOSEN))
    for source, name in enumerate(("nobody", "alike-app", "alike-person"), 1):
        names = [name, name.upper(), name.title()]
        replies = [await guess(strict, names[n % 3], f"wrong {n}", f"127.0.3.{source}") for n in range(10)]
        assert [reply[:9] for reply in replies] == ["535 5.7.8"] * 6 + ["454 4.7.0"] * 4
        reply = await guess(strict, "somebody else", "wrong", f"127.0.3.{source}")
        assert reply.startswith("454"), "all of them count for the address"


async def test_the_hourly_limit_is_one_for_all_workers(strict: Whole):
    """Connections are spread over two workers; together they let through just what one user may send."""
    assert len(strict.workers()) == 2
    codes = []
    refusal = ""
    for n in range(16):
        async with strict.user() as client:
            reply = await client.say("MAIL FROM:<app@sender.test>")
            if reply.startswith("250"):
                assert await client.code(f"RCPT TO:<r{n}@rcpt.test>") == 250
                assert await client.code("DATA") == 354
                reply = await client.say(b"From: <app@sender.test>\r\n\r\nx\r\n.\r\n")
            else:
                refusal = reply
            codes.append(reply[:3])
    assert codes == ["250"] * 10 + ["451"] * 6
    assert refusal.startswith("451 4.7.1 You may send 10 messages an hour; try again in ")
    # Neither does the death of workers make room.
    before = strict.workers()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        while len(set(strict.workers()) - set(before)) < 2:
            await asyncio.sleep(0.05)
    await strict.greeted()
    async with strict.user() as client:
        assert await client.code("MAIL FROM:<app@sender.test>") == 451


async def test_recipients_an_hour(tmp_path: Path):
    manager = whole(tmp_path, limits={"free_disk": "1MiB", "recipients_per_hour": 5})
    relay = await asyncio.to_thread(manager.__enter__)
    try:
        async with relay.user() as client:
            assert await client.code("MAIL FROM:<app@sender.test>") == 250
            codes = [await client.code(f"RCPT TO:<r{n}@rcpt.test>") for n in range(6)]
            assert codes == [250] * 5 + [450]
            reply = await client.say("RCPT TO:<more@rcpt.test>")
            assert reply.startswith("450 4.7.1 You may send to 5 recipients an hour; try again in ")
            assert await client.code("DATA") == 354
            assert await client.code(b"From: <app@sender.test>\r\n\r\nx\r\n.\r\n") == 250
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


@pytest.mark.parametrize("change", ["remove", "disable", "new password"])
async def test_an_open_session_ends_when_its_login_does_not_hold_any_more(strict: Whole, change: str):
    name = add_user(strict, f"user-to-{change.replace(' ', '-')}", seal_secret(PASSWORD))
    async with strict.client("submit", source="127.0.0.85") as client:
        await secured(strict, client)
        assert await client.code(f"AUTH PLAIN {plain(name, PASSWORD)}") == 235
        assert await client.code("MAIL FROM:<app@sender.test>") == 250
        assert await client.code("RSET") == 250
        if change == "remove":
            assert strict.run("user", "remove", name).returncode == 0
        elif change == "new password":
            assert strict.run("user", "passwd", name).returncode == 0
        else:
            with editing(strict.data_dir / FILE) as users:
                users[name] = msgspec.structs.replace(users[name], disabled=True)
            await asyncio.sleep(0.002)
        reply = await client.say("MAIL FROM:<app@sender.test>")
        assert reply == "421 4.7.0 Your account was changed since you logged in; connect and log in again"
        assert await client.rest() == ""
    assert (await guess(strict, name, PASSWORD, "127.0.0.85")).startswith("535")


async def test_an_open_session_has_the_senders_of_now(strict: Whole):
    """Also one whose password is remembered: a chosen one."""
    name = add_user(strict, "user-to-narrow", seal_password(CHOSEN))
    async with strict.client("submit", source="127.0.0.86") as client:
        await secured(strict, client)
        assert await client.code(f"AUTH PLAIN {plain(name, CHOSEN)}") == 235
        assert await client.code("MAIL FROM:<app@sender.test>") == 250
        assert await client.code("RSET") == 250
        for senders, code in ((("other.test",), 553), (("sender.test",), 250)):
            with editing(strict.data_dir / FILE) as users:
                users[name] = msgspec.structs.replace(users[name], senders=senders)
            await asyncio.sleep(0.002)
            assert await client.code("MAIL FROM:<app@sender.test>") == code
        assert await client.code("RSET") == 250
        # What happens to other users ends nobody's session.
        add_user(strict, "user-beside", seal_secret(PASSWORD))
        assert await client.code("MAIL FROM:<app@sender.test>") == 250


async def test_an_open_session_of_a_network_that_is_not_trusted_any_more(tmp_path: Path):
    manager = whole(tmp_path, submission={"trusted_networks": ["127.0.0.1/32", "127.0.0.88/32"]})
    relay = await asyncio.to_thread(manager.__enter__)
    try:
        async with relay.client("open", source="127.0.0.88") as client:
            assert await client.code("EHLO c.test") == 250
            assert await client.code("MAIL FROM:<a@sender.test>") == 250
            assert await client.code("RCPT TO:<b@rcpt.test>") == 250
            assert await client.code("RSET") == 250
            relay.write_settings(submission={"trusted_networks": ["127.0.0.1/32"]})
            assert relay.process is not None
            relay.process.send_signal(signal.SIGHUP)
            await until(lambda: "what=reloaded" in relay.log)
            assert await client.code("MAIL FROM:<a@sender.test>") == 250
            assert await client.code("RCPT TO:<b@rcpt.test>") == 550
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


def mann_whitney(one: list[float], other: list[float]) -> float:
    """|z| of the rank-sum test (normal approximation; times hardly tie)."""
    ranked = sorted([(value, 0) for value in one] + [(value, 1) for value in other])
    ranks = sum(rank for rank, (_, group) in enumerate(ranked, 1) if group == 0)
    n, m = len(one), len(other)
    mean, deviation = n * (n + m + 1) / 2, (n * m * (n + m + 1) / 12) ** 0.5
    return abs(ranks - mean) / deviation


@pytest.mark.slow
@pytest.mark.parametrize("known", [PERSON, USER], ids=["chosen password", "generated password"])
async def test_unknown_users_and_wrong_passwords_take_the_same_time(relay: Whole, known: str):
    """Interleaved at random, so that a busy machine hits both; |z| > 4.5 by chance is one in 100,000."""
    unknown = "nobody-here"
    order = [known] * 200 + [unknown] * 200
    random.shuffle(order)
    times: dict[str, list[float]] = {known: [], unknown: []}
    texts = set()
    for pair in zip(order[::2], order[1::2], strict=True):
        # Two guesses a connection: the third would end it.
        async with relay.client("implicit", stranger=True) as client:
            assert await client.code("EHLO c.test") == 250
            for name in pair:
                line = f"AUTH PLAIN {plain(name, f'wrong {len(times[known]) + len(times[unknown])}')}"
                began = time.perf_counter()
                texts.add(await client.say(line))
                times[name].append(time.perf_counter() - began)
    assert texts == {"535 5.7.8 User name or password is wrong"}
    medians = [statistics.median(taken) for taken in times.values()]
    assert mann_whitney(times[known], times[unknown]) < 4.5 or abs(medians[0] - medians[1]) < 0.001, medians
