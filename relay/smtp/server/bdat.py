"""BDAT: a message in counted chunks (RFC 3030).

Even if a chunk is refused, the announced octets are consumed and never read as commands (CVE-2017-16943,
CVE-2026-45185). If the count itself is not valid, the session ends. BODY=BINARYMIME is not offered, so the content
follows the same rules as with DATA.
"""

import re

from relay.smtp.reply import Reply
from relay.smtp.server import texts
from relay.smtp.server.content import Content
from relay.smtp.server.session import Phase, Session
from relay.smtp.server.texts import Canned

_ARGUMENT = re.compile(r"([0-9]{1,19})(?: +(LAST))?", re.IGNORECASE | re.ASCII)


def bdat(session: Session, argument: str) -> None:
    """BDAT octets [LAST]."""
    match = _ARGUMENT.fullmatch(argument)
    if match is None:
        session.refuse(texts.BDAT_SYNTAX)
        session.close()
        return
    octets = int(match[1])
    if not octets and match[2] is None and session.idle_command():
        # An empty chunk is allowed (RFC 3030 §2) but, like NOOP, could keep a session open forever.
        return
    session.chunk_left = octets
    session.chunk_last = match[2] is not None
    session.chunk_fault = session.chunk_fault or _begin(session)
    if session.content is not None:
        session.content.expect(octets)
    if octets > drop_limit(session):
        session.refuse_any(texts.TOO_BIG)
        session.close()
        return
    session.phase = Phase.CHUNK
    if not octets:
        end(session)


def take(session: Session, piece: bytes) -> None:
    """Process bytes of the chunk; `piece` must not be longer than `chunk_left`."""
    session.chunk_left -= len(piece)
    if session.content is not None:
        session.content.write(piece)
    if not session.chunk_left:
        end(session)


def end(session: Session) -> None:
    """Answer a complete chunk; after the last one, deliver the message."""
    session.phase = Phase.COMMAND
    content = session.content
    fault: Canned | Reply | None = session.chunk_fault
    if fault is None and content is not None:
        fault = content.finish() if session.chunk_last else content.fault
    if fault is not None:
        _fail(session, fault)
    elif session.chunk_last:
        session.deliver()
    else:
        session.say(texts.CHUNK_OK)


def drop_limit(session: Session) -> int:
    """Bytes of a refused message that are still read, so that the client gets a clean reply; then the session ends."""
    return 2 * session.context.max_message_size + (256 << 20)


def _fail(session: Session, fault: Canned | Reply) -> None:
    """Refuse the chunk, and all later chunks of the transaction up to LAST or RSET."""
    if session.chunk_last or session.transaction is None:
        session.reset()
    else:
        content, session.content = session.content, None
        if content is not None:
            content.discard()
        session.chunk_fault = texts.BDAT_FAILED if session.chunked else None
    session.refuse_any(fault)


def _begin(session: Session) -> Canned | Reply | None:
    """At the first chunk, check whether a message may begin. None if it may, or has begun already."""
    transaction = session.transaction
    if transaction is None:
        return texts.NEED_MAIL
    if session.chunked:
        return None
    if not transaction.recipients:
        return texts.NEED_RCPT
    session.chunked = True
    incoming = session.handler.incoming(session.peer, transaction)
    if isinstance(incoming, Reply):
        return incoming
    session.content = Content(incoming, session.context.max_message_size, normalise=session.lenient)
    return None
