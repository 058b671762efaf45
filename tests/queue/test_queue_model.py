"""Both backends are told the same at random and must answer the same."""

import asyncio
import itertools
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from msgspec.structs import replace

from relay_queue.decide import MARKABLE
from relay_queue.model import LOCAL_NODE, Destination, Entry, Owner, Put, Selection
from relay_queue.protocol import Action, QueueError
from relay_queue.states import State
from tests.support.queues import NOW, a_mark, a_put, open_pair, register, worker

OWNERS = st.integers(1, 2)
DOMAINS = st.sampled_from(["a.test", "b.test", "c.test"])
TIMES = st.integers(0, 20).map(lambda seconds: NOW + seconds)


def copied(put):
    """The memory backend and SQLite must not share records."""
    return Put(Entry(replace(put.entry.message), [replace(r) for r in put.entry.recipients]), put.body)


class Backends(RuleBasedStateMachine):
    """One queue in memory and one in SQLite, side by side."""

    messages = Bundle("messages")

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.pairs = [self.runner.run(self.opened(kind)) for kind in ("memory", "sqlite")]
        self.clock = itertools.count()

    async def opened(self, kind):
        pair = open_pair(kind, self.folder / kind)
        await register(pair.queue)
        return pair

    def teardown(self):
        for pair in self.pairs:
            self.runner.run(pair.aclose())
        self.runner.close()
        shutil.rmtree(self.folder)

    def both(self, ask):
        """Ask both and compare, errors by their kind."""

        async def asked(pair):
            try:
                return await ask(pair)
            except QueueError as error:
                return type(error)

        memory, sqlite = (self.runner.run(asked(pair)) for pair in self.pairs)
        assert memory == sqlite
        return memory

    @rule(target=messages, domains=st.lists(DOMAINS, min_size=1, max_size=4), due_at=TIMES, owner=st.none() | OWNERS)
    def put(self, domains, due_at, owner):
        recipient = {"due_at": due_at, "owner": owner, "state": State.QUEUED if owner is None else State.ACTIVE}
        put = a_put(*(f"u{n}@{domain}" for n, domain in enumerate(domains)), recipient=recipient)

        async def ask(pair):
            return await pair.queue.put(copied(put))

        self.both(ask)
        return put

    @rule(message=messages)
    def put_again(self, message):
        async def ask(pair):
            return await pair.queue.put(copied(message))

        live = self.pairs[0].admin.show(message.entry.message.id)
        if live is not None:
            self.both(ask)

    @rule(owner=OWNERS, domain=DOMAINS, now=TIMES)
    def claim(self, owner, domain, now):
        async def ask(pair):
            entries = await pair.queue.claim(worker(owner), Destination(domain), 100, now)
            return sorted(
                ((entry.message, sorted(entry.recipients, key=lambda r: r.n)) for entry in entries),
                key=lambda entry: entry[0].id,
            )

        self.both(ask)

    @rule(
        message=messages,
        ns=st.sets(st.integers(0, 3), min_size=1),
        state=st.sampled_from(sorted(MARKABLE)),
        owner=OWNERS,
        at=TIMES,
        reply=st.sampled_from([None, "250 ok", "451 later"]),
        lane=st.sampled_from([None, "mx1", "mx2"]),
        remote=st.sampled_from([None, "mx1[192.0.2.1]"]),
        delay_notified=st.booleans(),
        notify=st.booleans(),
    )
    def mark(self, message, ns, notify, state, at, **fields):
        marks = [
            a_mark(message, state, n, at=at, due_at=at, failure=fields["reply"] and f"class {at}", **fields) for n in ns
        ]
        notices = [a_put(sender="", origin="dsn")] if notify else []

        async def ask(pair):
            return await pair.queue.mark(list(marks), [copied(notice) for notice in notices])

        self.both(ask)

    @rule(node=st.booleans(), number=OWNERS)
    def recover(self, node, number):
        async def ask(pair):
            if node:
                return await pair.queue.recover_node(LOCAL_NODE)
            return await pair.queue.recover(Owner(LOCAL_NODE, number, 0))

        self.both(ask)

    @rule(number=OWNERS)
    def register_again(self, number):
        async def ask(pair):
            return await pair.queue.recover(await pair.queue.lease(LOCAL_NODE, number))

        self.both(ask)

    @rule(
        action=st.sampled_from(Action),
        domain=st.none() | DOMAINS,
        states=st.sets(st.sampled_from([State.QUEUED, State.ACTIVE, State.HELD]), max_size=2),
        limit=st.none() | st.integers(1, 3),
        dry_run=st.booleans(),
        now=TIMES,
    )
    def steer(self, action, domain, states, limit, dry_run, now):
        selection = Selection(domain=domain, states=tuple(sorted(states)))

        async def ask(pair):
            return pair.admin.steer(action, selection, now=now, reason="by admin", limit=limit, dry_run=dry_run)

        self.both(ask)

    @rule(message=consumes(messages))
    def forget(self, message):
        """So that later rules meet fewer messages."""

    @rule(before=TIMES)
    def prune(self, before):
        # The order within one transaction is each backend's own, so only whole prunings can be compared.
        async def ask(pair):
            return await pair.queue.prune(before, limit=1000)

        self.both(ask)

    @invariant()
    def same_queue(self):
        async def ask(pair):
            return (
                list(pair.admin.select(Selection(), limit=None)),
                pair.admin.summary(Selection()),
                sorted((row.message_id, row.n, row) for row in pair.admin.ended(limit=10_000)),
                await pair.queue.due(NOW, None, 10),
                [await pair.queue.pending_actions(worker(owner)) for owner in (1, 2)],
            )

        self.both(ask)


TestBackends = Backends.TestCase
TestBackends.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
