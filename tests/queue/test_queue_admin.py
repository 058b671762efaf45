"""The shell's face: the same tests on every backend."""

import pytest
from msgspec.structs import replace

from relay_queue.matching import lane_matches
from relay_queue.model import Destination, Selection, SuspensionKind
from relay_queue.protocol import Action, PendingAction
from relay_queue.states import State
from tests.support.queues import NOW, a_mark, a_put, in_hand, worker


@pytest.fixture
async def five(queue):
    """Five messages that differ in all that a selection can ask for."""
    puts = [
        a_put("Ann@a.test", sender="Boss@s.test", user="app", received_at=NOW - 500, header_id="<Id-1@s.test>"),
        a_put("bob@a.test", "bob@b.test", sender="", size=10_000, received_at=NOW - 400, header_id="<Id-1@s.test>"),
        in_hand("cid@c.test", sender="x@sub.s.test", user="web", received_at=NOW - 300, header_id="malformed"),
        in_hand("dan@d.test", received_at=NOW - 200),
        in_hand("eve@e.test", received_at=NOW - 100),
    ]
    for put in puts:
        await queue.put(put)
    await queue.mark(
        [
            a_mark(puts[3], State.QUEUED, reply="451 4.7.1 GREYLISTED, come [back] 100% later", lane="mx1.[d].test"),
            a_mark(puts[4], State.HELD, lane="mx.google.com", reply="held"),
        ]
    )
    return [put.entry.message.id for put in puts]


SELECTIONS = [
    (Selection(), "0 1 1 2 3 4"),
    (Selection(sender="boss@S.test"), "0"),
    (Selection(sender=""), "1 1"),
    (Selection(sender_domain="s.test"), "0"),
    (Selection(recipient="ANN@a.test"), "0"),
    (Selection(domain="A.test"), "0 1"),
    (Selection(site="*.GOOGLE.com"), "4"),
    (Selection(site="mx?.[d].test"), "3"),
    (Selection(site="mx1.d.test"), ""),
    (Selection(site="mx.google.com"), "4"),
    (Selection(states=(State.ACTIVE, State.HELD)), "2 4"),
    (Selection(user="app"), "0"),
    (Selection(received_before=NOW - 300), "0 1 1"),
    (Selection(larger_than=9_999), "1 1"),
    (Selection(larger_than=10_000), ""),
    (Selection(error="greylisted"), "3"),
    (Selection(error="100%"), "3"),
    (Selection(error="_"), ""),
    (Selection(error="' OR 1=1 --"), ""),
    (Selection(domain="a.test", sender=""), "1"),
    (Selection(header_id="<Id-1@s.test>"), "0 1 1"),
    (Selection(header_id="Id-1@s.test"), "0 1 1"),
    (Selection(header_id="id-1@s.test"), ""),
    (Selection(header_id="Id-_@s.test"), ""),
    (Selection(header_id="malformed"), "2"),
    (Selection(header_id=""), ""),
    (Selection(header_id="<Id-1@s.test>", domain="b.test"), "1"),
]


@pytest.mark.parametrize(("selection", "expected"), SELECTIONS)
async def test_each_filter_selects_what_it_says(admin, five, selection, expected):
    found = [five.index(entry.message.id) for entry in admin.select(selection) for _ in entry.recipients]
    assert " ".join(map(str, found)) == expected
    counted = admin.summary(selection)
    assert sum(row.queued + row.active + row.held + row.quarantined for row in counted) == len(found)
    assert admin.steer(Action.DROP, selection, now=NOW, dry_run=True).recipients == len(found)


LANES = [
    ("mx.example.test", "mx.example.test", True),
    ("MX.example.test", "mx.EXAMPLE.test", True),
    ("*.example.test", "mx.example.test", True),
    ("mx.example.test", "mx.example.test/own.test", True),
    ("mx.example.test/own.test", "mx.example.test/own.test", True),
    ("own.test", "mx.example.test/own.test", False),
    ("b.test", "a.test,b.test,c.test", True),
    ("a.test,b.test,c.test", "a.test,b.test,c.test", True),
    ("b.te", "a.test,b.test", False),
    ("?.test", "a.test,b.test", True),
    ("hub.test:587", "hub.test:587#required", True),
    ("hub.test:587#required", "hub.test:587#required", True),
    ("hub.test:587#none", "hub.test:587#required", False),
    ("hub.test:587", "hub.test:587#required-ann/own.test", True),
    ("hub.test:587#required-ann", "hub.test:587#required-ann/own.test", True),
    ("hub.test", "hub.test:587", False),
    ("[192.0.2.1]", "[192.0.2.1]", True),
    ("[192.0.2.1]", "1", False),
    ("*", None, False),
]


@pytest.mark.parametrize(("pattern", "lane", "means"), LANES)
def test_a_site_pattern_means_a_lane_by_its_name_its_site_or_a_host(pattern, lane, means):
    assert lane_matches(pattern, lane) is means


async def test_selecting_by_ids(admin, five):
    selection = Selection(ids=(five[0], f"{five[1]}/1", f"{five[2]}/7", "nonsense"))
    assert [[r.address for r in entry.recipients] for entry in admin.select(selection)] == [
        ["Ann@a.test"],
        ["bob@b.test"],
    ]


async def test_a_listing_is_limited_in_messages(admin, five):
    assert [entry.message.id for entry in admin.select(Selection(), limit=2)] == five[:2]
    assert len(list(admin.select(Selection(), limit=None))) == 5


async def test_the_summary_counts_by_domain_largest_first(admin, five):
    rows = admin.summary(Selection())
    assert [(row.domain, row.queued, row.active, row.held) for row in rows] == [
        ("a.test", 2, 0, 0),
        ("b.test", 1, 0, 0),
        ("c.test", 0, 1, 0),
        ("d.test", 1, 0, 0),
        ("e.test", 0, 0, 1),
    ]
    assert (rows[0].oldest, rows[0].next_due) == (NOW - 500, NOW)
    assert (rows[4].oldest, rows[4].next_due) == (NOW - 100, None)
    narrowed = admin.summary(Selection(sender=""))
    assert [(row.domain, row.queued, row.oldest) for row in narrowed] == [
        ("a.test", 1, NOW - 400),
        ("b.test", 1, NOW - 400),
    ]


async def test_hold_and_release(queue, admin, five):
    done = admin.steer(Action.HOLD, Selection(), now=NOW, reason="by me")
    assert (done.recipients, done.requested, done.messages) == (5, 1, 4)
    states = [r.state for entry in admin.select(Selection()) for r in entry.recipients]
    assert states == [State.HELD] * 3 + [State.ACTIVE] + [State.HELD] * 2
    assert (admin.show(five[0]).recipients[0].reason, admin.show(five[0]).recipients[0].reply) == ("by me", None)
    assert "GREYLISTED" in admin.show(five[3]).recipients[0].reply, "the server's answer stays"
    assert [(wish.reason, wish.action) for wish in await queue.pending_actions(worker(1))] == [("by me", Action.HOLD)]
    assert await queue.claim(worker(1), Destination("a.test"), 9, NOW + 9) == []
    done = admin.steer(Action.RELEASE, Selection(), now=NOW + 5)
    assert (done.recipients, done.requested) == (6, 1)
    assert {r.reason for entry in admin.select(Selection()) for r in entry.recipients} == {None}
    assert await queue.pending_actions(worker(1)) == []
    assert len(await queue.claim(worker(1), Destination("a.test"), 9, NOW + 4)) == 0
    assert len(await queue.claim(worker(1), Destination("a.test"), 9, NOW + 5)) == 2


async def test_flush_makes_due_what_waits_and_leaves_the_held(queue, admin, five):
    admin.steer(Action.HOLD, Selection(domain="b.test"), now=NOW)
    done = admin.steer(Action.FLUSH, Selection(), now=NOW - 60)
    assert (done.recipients, done.requested) == (3, 0)
    assert await queue.due(NOW, None, 9) == [(Destination("a.test"), NOW - 60), (Destination("d.test"), NOW - 60)]
    assert admin.show(five[1]).recipients[1].state is State.HELD


async def test_drop_ends_and_asks(queue, admin, five):
    done = admin.steer(Action.DROP, Selection(), now=NOW, reason="spam")
    assert (done.recipients, done.requested, done.messages) == (6, 1, 5)
    assert [entry.message.id for entry in done.entries] == [five[0], five[1], five[3], five[4]]
    assert {r.reason for entry in done.entries for r in entry.recipients} == {"spam"}
    assert [entry.message.id for entry in admin.select(Selection())] == [five[2]]
    assert {(ended.state, ended.reason, ended.ended_at) for ended in admin.ended()} == {(State.DROPPED, "spam", NOW)}
    assert {ended.reply for ended in admin.ended()} == {None, "held", "451 4.7.1 GREYLISTED, come [back] 100% later"}
    assert await queue.pending_actions(worker(1)) == [PendingAction(five[2], 0, Action.DROP, "spam")]


async def test_fail_builds_one_notice_for_a_message_with_what_failed(admin, five):
    seen = []

    def notice(entry):
        seen.append(entry)
        return a_put(entry.message.sender or "nobody@s.test", sender="", origin="dsn") if entry.message.sender else None

    done = admin.steer(Action.FAIL, Selection(), now=NOW, reason="by admin", notice=notice)
    assert (done.recipients, done.requested, done.messages) == (6, 1, 5)
    assert [entry.message.id for entry in seen] == [five[0], five[1], five[3], five[4]]
    assert [r.address for r in seen[1].recipients] == ["bob@a.test", "bob@b.test"]
    assert {r.reason for entry in seen for r in entry.recipients} == {"by admin"}
    assert done.entries == seen
    assert {ended.state for ended in admin.ended()} == {State.FAILED}
    notices = [entry for entry in admin.select(Selection()) if entry.message.origin == "dsn"]
    assert len(notices) == 3


async def test_a_dry_run_shows_and_changes_nothing(admin, five):
    before = list(admin.select(Selection()))
    done = admin.steer(Action.HOLD, Selection(), now=NOW, dry_run=True)
    assert (done.recipients, done.requested, len(done.entries)) == (5, 1, 4)
    assert list(admin.select(Selection())) == before


async def test_steering_is_limited_in_recipients(admin, five):
    assert admin.steer(Action.HOLD, Selection(), now=NOW, limit=2).recipients == 2
    states = [r.state for entry in admin.select(Selection()) for r in entry.recipients]
    assert states.count(State.HELD) == 3


async def test_a_later_wish_takes_the_place_of_the_earlier(queue, admin, five):
    chosen = Selection(ids=(five[2],))
    for action, expected in [
        (Action.HOLD, 1),
        (Action.HOLD, 0),
        (Action.FLUSH, 0),
        (Action.DROP, 1),
        (Action.RELEASE, 0),
        (Action.FAIL, 1),
    ]:
        assert admin.steer(action, chosen, now=NOW).requested == expected, action
    assert await queue.pending_actions(worker(1)) == [PendingAction(five[2], 0, Action.FAIL, None)]


@pytest.mark.parametrize(
    ("action", "marked", "reply", "ends", "reason"),
    [
        (Action.HOLD, State.QUEUED, "450 busy", False, "asked for"),
        (Action.HOLD, State.DELIVERED, "250 ok", True, None),
        (Action.HOLD, State.FAILED, "550 no", True, None),
        (Action.DROP, State.QUEUED, "450 busy", True, "asked for"),
        (Action.DROP, State.EXPIRED, "450 busy", True, None),
        (Action.FAIL, State.FAILED, None, True, "asked for"),
        (Action.FAIL, State.FAILED, "550 no", True, None),
    ],
)
async def test_the_reason_of_a_wish_is_kept_where_it_comes_true(queue, admin, action, marked, reply, ends, reason):
    put = in_hand()
    await queue.put(put)
    name = put.entry.message.id
    admin.steer(action, Selection(ids=(name,)), now=NOW, reason="asked for")
    assert admin.show(name).recipients[0].reason == "asked for"
    assert await queue.mark([a_mark(put, marked, reply=reply)]) == []
    (after,) = admin.ended(name) if ends else admin.show(name).recipients
    assert (after.reason, after.reply) == (reason, reply)


async def test_the_reason_outlives_a_worker_that_died(queue, admin):
    put = in_hand()
    await queue.put(put)
    admin.steer(Action.FAIL, Selection(), now=NOW, reason="a mistake")
    await queue.recover(await queue.lease("local", 1))
    (recipient,) = admin.show(put.entry.message.id).recipients
    assert (recipient.state, recipient.reason) == (State.HELD, "a mistake")


async def test_who_answered_last_is_remembered(queue, admin):
    put = in_hand()
    await queue.put(put)
    assert await queue.mark([a_mark(put, State.QUEUED, due_at=NOW, remote="mx1[192.0.2.1]:25")]) == []
    for _ in range(2):
        ((entry,),) = [await queue.claim(worker(1), Destination("example.test"), 9, NOW)]
        assert entry.recipients[0].remote == "mx1[192.0.2.1]:25"
        assert await queue.mark([a_mark(put, State.QUEUED, due_at=NOW, remote=None)]) == []
    assert admin.show(put.entry.message.id).recipients[0].remote == "mx1[192.0.2.1]:25"


async def test_steering_goes_through_many_pages(queue, admin):
    for start in range(0, 1300, 650):
        await queue.put(a_put(*(f"u{n}@x.test" for n in range(start, start + 650))))
    for _ in range(20):
        await queue.put(a_put())
    seen = []
    done = admin.steer(Action.FAIL, Selection(), now=NOW, notice=seen.append)
    assert (done.recipients, done.messages) == (1320, 22)
    assert len(seen) == 22
    assert admin.summary(Selection()) == []


async def test_the_history_by_message_and_address(queue, admin):
    first, second = in_hand("Ann@x.test"), in_hand("bob@x.test", sender="ANN@x.test")
    for put in (first, second):
        await queue.put(put)
        await queue.mark([a_mark(put, State.DELIVERED)])
    assert [ended.address for ended in admin.ended()] == ["bob@x.test", "Ann@x.test"]
    assert len(admin.ended(limit=1)) == 1
    assert [ended.address for ended in admin.ended(first.entry.message.id)] == ["Ann@x.test"]
    assert len(admin.ended(address="aNN@x.test")) == 2
    assert admin.ended(first.entry.message.id, "bob@x.test") == []
    assert admin.ended(address="nobody@x.test") == []


async def test_the_shell_puts_and_reads_bodies(queue, admin):
    small, large = a_put(), a_put(body=b"Subject: big\r\n\r\n" + b"0123456789" * 100_000)
    for put in (small, large):
        admin.put(put)
        assert b"".join(admin.body(put.entry.message.id)) == put.body.head
    with pytest.raises(KeyError):
        admin.body(a_put().entry.message.id)
    assert len(await queue.claim(worker(1), Destination("example.test"), 9, NOW)) == 2


async def test_suspensions_come_and_go(queue, admin):
    first = admin.suspend(SuspensionKind.DOMAIN, "x.test", "they asked", None, NOW)
    second = admin.suspend(SuspensionKind.SITE, "*.google.com", "tempfail", NOW + 60, NOW)
    assert await queue.suspensions() == [first, second] == list(admin.suspensions())
    assert admin.resume([first.id, 999]) == 1
    assert await queue.suspensions() == [second]
    assert admin.suspend(SuspensionKind.USER, "app", "", None, NOW).id not in {first.id, second.id}


async def test_what_is_shown_is_a_copy(queue, admin):
    put = a_put()
    await queue.put(put)
    original = replace(put.entry.recipients[0])
    admin.show(put.entry.message.id).recipients[0].address = "changed@x.test"
    put.entry.recipients[0].address = "changed@x.test"
    assert admin.show(put.entry.message.id).recipients == [original]


async def test_the_message_id_stays_known(queue, admin):
    put = in_hand("a@x.test", header_id="<id@x.test>")
    await queue.put(put)
    entry = admin.show(put.entry.message.id)
    assert entry.message.header_id == "<id@x.test>"
    await queue.mark([a_mark(put, State.QUEUED, due_at=NOW)])
    [claimed] = await queue.claim(worker(1), Destination("x.test"), 9, NOW)
    assert claimed.message.header_id == "<id@x.test>"
    await queue.mark([a_mark(put, State.DELIVERED)])
    [ended] = admin.ended(put.entry.message.id)
    assert ended.header_id == "<id@x.test>"
