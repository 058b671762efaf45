"""Magic recipients: local parts that make the sandbox's receiver behave like a difficult mail server.

The domain and the case do not matter; `+anything` after the name is ignored, so that tests can use separate addresses
(`bounce+order-17@example.test`). Pure: the caller keeps the `Greylist`.
"""

from collections import OrderedDict

from relay.smtp.reply import Reply

SLOW_SECONDS = 10.0
"""Seconds that `slow@` delays the reply to the final dot."""

AT_RECIPIENT: dict[str, Reply] = {
    "bounce": Reply(550, "5.1.1", "Mailbox does not exist (sandbox: bounce@ always answers this)"),
    "defer": Reply(450, "4.2.0", "Mailbox is busy, try again later (sandbox: defer@ always answers this)"),
    "full": Reply(452, "4.2.2", "Mailbox is full (sandbox: full@ always answers this)"),
}
"""Replies to magic recipients that are always refused at RCPT."""

GREYLISTED = Reply(451, "4.7.1", "Greylisted, try again later (sandbox: greylist@ accepts the second attempt)")
POLICY = Reply(550, "5.7.1", "Content refused by policy (sandbox: reject-policy@ always answers this)")

MEANINGS: dict[str, str] = {
    "bounce": "550 5.1.1 at RCPT: fails at once, the sender gets a bounce",
    "defer": "450 4.2.0 at RCPT, always: retried until it expires",
    "greylist": "451 4.7.1 the first time for a sender and recipient, then accepted",
    "full": "452 4.2.2 at RCPT, always: retried until it expires",
    "slow": f"accepted {SLOW_SECONDS:.0f} seconds after the message's end",
    "reject-policy": "550 5.7.1 after the message's end: fails at once",
}
"""The effect of each magic recipient, for the manual and the first steps."""

_REMEMBERED = 10_000


def magic(address: str) -> str | None:
    """Return the magic name in an address, or None for an ordinary address."""
    name = address.rpartition("@")[0].partition("+")[0].lower()
    return name if name in MEANINGS else None


class Greylist:
    """The (sender, recipient) pairs that were refused once. Bounded: the oldest are removed."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    def check(self, sender: str, recipient: str) -> Reply | None:
        """Return a refusal for a new pair, or None for a known one."""
        pair = (sender, recipient)
        if pair in self._seen:
            return None
        self._seen[pair] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return GREYLISTED
