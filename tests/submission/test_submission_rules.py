"""The small pure parts of submission: networks, senders, quotas, failed logins, disk space."""

import pytest

from relay.model.peer import client_of
from relay.submission.disk import DiskSpace
from relay.submission.failures import AuthFailures, SharedFailures
from relay.submission.networks import Networks
from relay.submission.quota import Quota, shared_usage
from relay.submission.senders import SenderPolicy
from relay_config.schema import Limits, Settings, Submission
from relay_config.words import Size

NOW = 1_767_323_045.0


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::ffff:127.0.0.1", True),
        ("128.0.0.1", False),
        ("::1", True),
        ("::2", False),
        ("fd00::1%eth0", True),
        ("::ffff:192.0.2.1", False),
        ("10.0.0.5", True),
        ("", False),
        ("localhost", False),
        ("127.1", False),
        ("0x7f.0.0.1", False),
        ("\uff12", False),
    ],
)
def test_networks(address, inside):
    networks = Networks(["127.0.0.0/8", "::1/128", "fd00::/8", "10.0.0.5"])
    assert (address in networks) is inside
    assert (address in networks) is inside


def test_no_networks_trust_nobody():
    assert "127.0.0.1" not in Networks(())


def test_networks_remember_a_bounded_number():
    networks = Networks(["10.0.0.0/8"])
    for number in range(10_000):
        assert f"10.1.{number >> 8}.{number & 255}" in networks
    assert len(networks._known) <= 4096


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("odd:thing", "odd:thing"),
    ],
)
def test_what_counts_as_one_client(address, key):
    assert client_of(address) == key


@pytest.mark.parametrize(
    ("senders", "address", "allowed"),
    [
        (("*",), "x@anything.test", True),
        (("a@example.org",), "a@example.org", True),
        (("a@example.org",), "A@example.org", True),
        (("A@Example.org",), "a@example.org", True),
        (("a@example.org",), "b@example.org", False),
        (("a@example.org",), "a@example.net", False),
        (("example.org",), "b@example.org", True),
        (("example.org",), "b@mail.example.org", False),
        (("example.org",), "b@badexample.org", False),
        (("example.org", "c@example.net"), "c@example.net", True),
        (("a@example.org",), '"a@example.org"@evil.test', False),
        ((), "a@example.org", False),
    ],
)
def test_senders(senders, address, allowed):
    assert SenderPolicy(senders).allows(address, address.rpartition("@")[2]) is allowed


def test_the_domain_counts_not_its_spelling():
    assert SenderPolicy(("xn--bcher-kva.example",)).allows("a@BÜCHER.example", "xn--bcher-kva.example")
    assert SenderPolicy(("a@xn--bcher-kva.example",)).allows("a@bücher.example", "xn--bcher-kva.example")


def test_the_kelvin_sign_is_no_k():
    policy = SenderPolicy(("kim@example.org", "\u212aim@example.net"))
    assert policy.allows("KIM@example.org", "example.org")
    assert not policy.allows("\u212aim@example.org", "example.org")
    assert not policy.allows("kim@example.net", "example.net")
    assert policy.allows("\u212aim@example.net", "example.net")


def make_quota(workers=1, worker=0):
    return Quota(shared_usage(workers).column(worker))


def make_failures():
    return AuthFailures(SharedFailures(1), 0)


def test_messages_an_hour():
    quota = make_quota()
    for minute in range(10):
        assert quota.messages_wait("u", 1, 10, NOW + 60 * minute) == 0
        quota.add("u", 1, 5, NOW + 60 * minute)
    wait = quota.messages_wait("u", 1, 10, NOW + 600)
    assert 3000 - 60 <= wait <= 3000
    assert quota.messages_wait("u", 1, 10, NOW + 600 + wait - 1) > 0
    assert quota.messages_wait("u", 1, 10, NOW + 600 + wait) == 0
    assert quota.messages_wait("other", 1, 10, NOW) == 0


def test_recipients_an_hour():
    quota = make_quota()
    quota.add("u", 1, 90, NOW)
    assert quota.recipients_wait("u", 10, 100, NOW) == 0
    wait = quota.recipients_wait("u", 11, 100, NOW)
    assert 3540 <= wait <= 3600
    assert quota.recipients_wait("u", 11, 100, NOW + wait) == 0
    # More than the limit allows at any time: the longest wait, not an endless one.
    assert quota.recipients_wait("new", 101, 100, NOW) == 3600


def test_never_more_than_the_limit_in_any_hour():
    quota, sent = make_quota(), []
    for at in range(0, 4 * 3600, 37):
        if quota.messages_wait("u", 1, 20, NOW + at) == 0:
            quota.add("u", 1, 1, NOW + at)
            sent.append(at)
    assert len(sent) >= 60
    assert all(sum(start <= at < start + 3540 for at in sent) <= 20 for start in sent)


def test_a_clock_that_goes_back():
    quota = make_quota()
    quota.add("u", 1, 1, NOW)
    quota.add("u", 1, 1, NOW - 7200)
    assert quota.messages_wait("u", 1, 2, NOW) > 0
    assert quota.messages_wait("u", 1, 2, NOW + 3700) == 0


def test_quotas_for_more_users_than_are_counted():
    quota = make_quota()
    for number in range(40_000):
        quota.add(str(number), 1, 1, NOW + number / 100)
    assert quota.messages_wait("39999", 1, 1, NOW + 400) > 0


def test_what_was_taken_back_does_not_count():
    quota = make_quota()
    quota.add("u", 1, 5, NOW)
    quota.add("u", -1, -5, NOW)
    assert quota.messages_wait("u", 1, 1, NOW) == 0
    assert quota.recipients_wait("u", 5, 5, NOW) == 0


def test_failed_logins_of_a_client():
    failures = make_failures()
    for number in range(10):
        assert failures.wait("192.0.2.1", f"u{number}", 10, NOW + number) == 0
        failures.failed("192.0.2.1", f"u{number}", "guess", NOW + number)
    assert failures.wait("192.0.2.1", "another", 10, NOW + 10) == 50
    assert failures.wait("192.0.2.2", "another", 10, NOW + 10) == 0
    assert failures.wait("192.0.2.1", "another", 10, NOW + 60.5) == 0


def test_failed_logins_of_a_client_at_one_user():
    failures = make_failures()
    for _ in range(10):
        failures.failed("192.0.2.1", "Alice", "guess", NOW)
    assert failures.wait("192.0.2.1", "ALICE", 10, NOW + 1) == 59
    assert failures.wait("192.0.2.2", "alice", 10, NOW + 1) == 0


def test_one_old_password_tried_again_and_again_is_one_guess():
    """So it keeps out neither the neighbours at the same address nor the user at another one."""
    failures = make_failures()
    for number in range(1000):
        failures.failed("192.0.2.1", "app", "old password", NOW + number)
    now = NOW + 999
    assert failures.wait("192.0.2.1", "app", 10, now) > 0
    assert failures.wait("192.0.2.1", "neighbour", 10, now) == 0
    assert failures.wait("192.0.2.2", "app", 10, now) == 0


def test_failed_logins_for_a_user_but_not_against_one_who_knows_the_password():
    failures = make_failures()
    failures.succeeded("198.51.100.1", "Alice", NOW - 9)
    for number in range(99):
        failures.failed(f"192.0.2.{number}", "alice", "guess", NOW)
    assert failures.wait("192.0.2.199", "ALICE", 10, NOW + 1) == 0, "so many may still be mistakes"
    failures.failed("192.0.2.100", "alice", "guess", NOW)
    assert failures.wait("192.0.2.199", "ALICE", 10, NOW + 1) == 59
    assert failures.wait("198.51.100.1", "alice", 10, NOW + 1) == 0
    assert failures.wait("192.0.2.199", "bob", 10, NOW + 1) == 0


def test_who_knows_the_password_waits_only_for_guesses_from_the_same_address_at_the_same_user():
    failures = make_failures()
    failures.succeeded("192.0.2.1", "alice", NOW - 9)
    for number in range(10):
        failures.failed("192.0.2.1", f"u{number}", "guess", NOW)
    assert failures.wait("192.0.2.1", "bob", 10, NOW + 1) == 59
    assert failures.wait("192.0.2.1", "alice", 10, NOW + 1) == 0
    for number in range(10):
        failures.failed("192.0.2.1", "alice", f"guess {number}", NOW)
    assert failures.wait("192.0.2.1", "alice", 10, NOW + 1) == 59


def test_a_client_that_logged_in_is_familiar_for_a_day():
    failures = make_failures()
    assert not failures.familiar("192.0.2.1", NOW)
    failures.succeeded("192.0.2.1", "alice", NOW)
    assert failures.familiar("192.0.2.1", NOW + 86_000)
    assert not failures.familiar("192.0.2.1", NOW + 87_000)
    assert not failures.familiar("192.0.2.2", NOW)


def test_a_guesser_stays_known_among_many():
    failures = make_failures()
    for number in range(40_000):
        failures.failed("192.0.2.1", "x" * 9000 + str(number), f"guess {number}", NOW)
    assert failures.wait("192.0.2.1", "another", 10, NOW + 1) == 59


def disk(tmp_path, clock, **changes):
    return DiskSpace(
        Settings(
            hostname="x.test",
            data_dir=str(tmp_path),
            limits=Limits(free_disk=changes.get("free")),
            submission=Submission(max_message_size=Size(changes.get("message", 1))),
        ),
        clock,
    )


def test_disk_space(tmp_path):
    assert disk(tmp_path, lambda: NOW, free=Size(1)).room()
    assert not disk(tmp_path, lambda: NOW, free=Size(1 << 60)).room()
    assert not disk(tmp_path, lambda: NOW, message=1 << 60).room()


def test_the_disk_is_looked_at_once_a_second(tmp_path):
    now = NOW
    folder = tmp_path / "data"
    space = disk(folder, lambda: now, free=Size(1))
    with pytest.raises(OSError, match="No such file"):
        space.room()
    folder.mkdir()
    assert space.room()
    folder.rmdir()
    now += 0.9
    assert space.room()
    now += 0.2
    with pytest.raises(OSError, match="No such file"):
        space.room()


def test_a_local_part_is_compared_by_its_one_form():
    policy = SenderPolicy(("first..second.@example.org", '"a.b"@example.net', "<odd>@web_1.app"))
    for spelling in ("first..second.", '"first..second."', '"First..\\Second."'):
        assert policy.allows(f"{spelling}@example.org", "example.org")
    assert policy.allows("a.b@example.net", "example.net")
    assert policy.allows('"\\a.b"@example.net', "example.net")
    assert not policy.allows("first.second@example.org", "example.org")
    assert not policy.allows('"a.b@example.net"@example.org', "example.org")
