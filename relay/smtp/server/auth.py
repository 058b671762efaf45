"""AUTH PLAIN and LOGIN (RFC 4954, RFC 4616): the exchange of lines. The handler checks the passwords.

Must not log, keep or echo credentials: during an exchange, `Session.line` holds only the verb.
"""

import binascii
from collections.abc import Callable

from relay.model.peer import Identity
from relay.smtp.reply import Reply
from relay.smtp.server import texts
from relay.smtp.server.session import Phase, Session, failed_identity
from relay.smtp.server.texts import Canned

Step = Callable[[Session, str], None]
"""Processes one line of an exchange."""

MAX_LINE = 12_288
"""Octets in a line, including CRLF (RFC 4954 §4)."""


def auth(session: Session, argument: str) -> None:
    """AUTH mechanism [initial-response]."""
    session.line = "AUTH"
    mechanism, _, initial = argument.partition(" ")
    fault = _auth_order(session, mechanism, initial)
    if fault is not None:
        session.refuse(fault)
    elif mechanism.upper() == "PLAIN":
        _exchange(session, _plain, texts.AUTH_PLAIN, initial)
    else:
        _exchange(session, _login_user, texts.AUTH_USER, initial)


def line(session: Session, text: str) -> None:
    """Process one line of the exchange."""
    step = session.auth_step
    assert step is not None, "an exchange has a next step"
    session.line = "AUTH"
    session.auth_step = None
    session.phase = Phase.COMMAND
    if text == "*":
        session.refuse(texts.AUTH_CANCELLED)
        return
    step(session, text)


def _auth_order(session: Session, mechanism: str, initial: str) -> Canned | None:
    """The reason to refuse AUTH in this state and form, or None."""
    peer = session.peer
    rules = (
        (session.context.listener.auth == "off", texts.AUTH_OFF),
        (peer.identity is not None, texts.AUTH_ALREADY),
        (session.transaction is not None, texts.AUTH_IN_MAIL),
        # Checked before the syntax: a client that sent its password unencrypted is told that AUTH needs TLS.
        (not session.auth_offered, texts.AUTH_NEEDS_TLS),
        (not peer.extended, texts.NEED_EHLO),
        (not mechanism or " " in initial, texts.AUTH_SYNTAX),
        (not mechanism.isascii() or mechanism.upper() not in {"PLAIN", "LOGIN"}, texts.AUTH_UNKNOWN),
    )
    return next((fault for broken, fault in rules if broken), None)


def _exchange(session: Session, step: Step, prompt: Canned, initial: str) -> None:
    """Start the exchange with the initial response, or prompt for it."""
    if initial:
        # A single = is an empty initial response (RFC 4954 §4).
        step(session, "" if initial == "=" else initial)
    else:
        _ask(session, step, prompt)


def _ask(session: Session, step: Step, prompt: Canned) -> None:
    session.say(prompt)
    session.auth_step = step
    session.phase = Phase.AUTH


def _plain(session: Session, text: str) -> None:
    """PLAIN: authzid NUL authcid NUL password (RFC 4616)."""
    raw = _decode(text)
    parts = raw.split(b"\0") if raw is not None else []
    if len(parts) != 3:
        session.refuse(texts.AUTH_MALFORMED)
        return
    if parts[0] and parts[0] != parts[1]:
        # A user cannot act for another user.
        _wrong(session)
        return
    _check(session, parts[1], parts[2])


def _login_user(session: Session, text: str) -> None:
    """The user name of AUTH LOGIN (draft-murchison-sasl-login)."""
    raw = _decode(text)
    if raw is None:
        session.refuse(texts.AUTH_MALFORMED)
        return
    # Kept as text without loss: a name that is not UTF-8 is refused together with the password, not earlier.
    session.auth_user = raw.decode("utf-8", "surrogateescape")
    _ask(session, _login_password, texts.AUTH_PASSWORD)


def _login_password(session: Session, text: str) -> None:
    """The password of AUTH LOGIN."""
    raw = _decode(text)
    user, session.auth_user = session.auth_user, ""
    if raw is None:
        session.refuse(texts.AUTH_MALFORMED)
        return
    _check(session, user.encode("utf-8", "surrogateescape"), raw)


def _decode(text: str) -> bytes | None:
    """Strict base64, or None."""
    if len(text) % 4 or text.endswith("==="):
        # Python's strict mode accepts superfluous padding: `AAAA=`, `AAAA====`.
        return None
    try:
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        return None


def _check(session: Session, user: bytes, password: bytes) -> None:
    """Ask the handler to check the password, and continue with `_verdict` when it has answered."""
    try:
        name, secret = user.decode(), password.decode()
    except UnicodeDecodeError:
        _wrong(session)
        return
    if not name or not name.isprintable() or "\0" in secret:
        _wrong(session)
        return
    session.wait(
        session.handler.authenticate(session.peer, name, secret),
        lambda future: _verdict(session, failed_identity(future)),
    )


def _verdict(session: Session, verdict: Identity | Reply) -> None:
    if isinstance(verdict, Identity):
        session.peer.identity = verdict
        session.say(texts.AUTHENTICATED)
    elif verdict.code == 421:
        session.answer(verdict)
    else:
        # An attempt during a wait counts as a failed attempt, so that a client cannot continue to guess for free.
        _wrong(session, verdict)


def _wrong(session: Session, reply: Reply = texts.AUTH_WRONG.reply) -> None:
    """Count and answer a failed attempt; the last attempt allowed ends the session."""
    session.auth_failures += 1
    session.answer(reply)
    if session.auth_failures >= session.context.limits.auth_failures:
        session.close(texts.AUTH_TOO_MANY)
