"""What happens to every submitted message, however it was submitted: checks and repairs, up to the unsigned draft.

Pure but for the content. `relay.submission.submission` uses it in a worker and `relay send` in a process of its own.
"""

from relay.message.fix import Facts, Fixed, fix
from relay.message.headers import Header
from relay.message.incoming import Incoming
from relay.model.peer import Identity, Peer
from relay.model.transaction import Transaction
from relay.smtp.reply import Reply
from relay.submission import texts
from relay.submission.compose import Draft, draft
from relay.submission.rules import Rules
from relay.submission.senders import policy
from relay_config.streams import Streams
from relay_queue.model import DEFAULT_STREAM

STREAM_FIELD = b"x-relay-stream"
"""Header field that names the stream of a message; it is removed before the message is signed."""


def prepare(rules: Rules, peer: Peer, transaction: Transaction, content: Incoming, now: float) -> Draft | Reply:
    """The message that would be stored, or why it is refused. `now` is Unix time in seconds; `content` is closed."""
    assert content.header is not None, "the caller closes the content"
    facts: Facts = rules.facts(now)
    fixed = fix(content.header, facts)
    if isinstance(fixed, Reply):
        return fixed
    if peer.identity is not None:
        denied = _author_denied(peer.identity, fixed)
        if denied is not None:
            return texts.author_denied(denied, peer.identity.senders)
    stream = _take_stream(fixed.header, rules.streams)
    if isinstance(stream, Reply):
        return stream
    return draft(peer, transaction, content, fixed, facts, rules.keys.find(fixed.authors[0].domain), stream)


def _take_stream(header: Header, streams: Streams) -> str | Reply:
    """Remove the field that names the stream from the header, and return the name."""
    if STREAM_FIELD not in header.names:
        return DEFAULT_STREAM
    if header.count(STREAM_FIELD) > 1:
        return texts.STREAM_TWICE
    name = (header.value(STREAM_FIELD) or b"").decode("ascii", "replace").strip().lower()
    if name not in streams:
        return texts.stream_unknown(name, streams.names)
    header.remove(STREAM_FIELD)
    return name


def _author_denied(identity: Identity, fixed: Fixed) -> str | None:
    """The first address of From that the user may not use."""
    allowed = policy(identity.senders)
    if allowed.any:
        return None
    for author in fixed.authors:
        if not allowed.allows(author.address, author.domain):
            return author.address
    return None
