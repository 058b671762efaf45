"""The part of a notification that programs read: message/delivery-status (RFC 3464 §2)."""

from collections.abc import Sequence

from relay.message.date import stamp
from relay.message.dsn.fields import ended_by_admin, enhanced_code, field, is_reply, mta_name, printable, xtext
from relay.message.dsn.wanted import Kind
from relay_queue.model import Message, Recipient
from relay_queue.states import State

_ACTIONS: dict[Kind, str] = {"failure": "failed", "delay": "delayed", "success": "relayed"}
_CLASSES: dict[Kind, str] = {"failure": "5", "delay": "4", "success": "2"}
_EXPIRED = "4.4.7"
"""RFC 3463 §3.5: the attempts' own codes are told by Diagnostic-Code."""
_BY_ADMIN = "5.7.0"
"""An administrator of this relay gave it up, whatever was answered before."""


def status(
    kind: Kind,
    message: Message,
    recipients: Sequence[Recipient],
    *,
    hostname: str,
    expires_at: float | None,
    utf8: bool,
) -> str:
    """The whole part with CRLF line ends, ASCII unless `utf8`."""
    head = field("Reporting-MTA", f"dns; {hostname}")
    if message.envid:
        head = field("Original-Envelope-Id", xtext(message.envid)) + head
    groups = [head + field("Arrival-Date", stamp(message.received_at))]
    for recipient in recipients:
        group = _addresses(recipient, utf8=utf8)
        group += field("Action", _ACTIONS[kind])
        group += field("Status", status_code(kind, recipient))
        group += _answer(recipient, utf8=utf8)
        if recipient.changed_at:
            group += field("Last-Attempt-Date", stamp(recipient.changed_at))
        if kind == "delay" and expires_at is not None:
            group += field("Will-Retry-Until", stamp(expires_at))
        groups.append(group)
    return "\r\n".join(groups)


def status_code(kind: Kind, recipient: Recipient) -> str:
    """The Status field: subject and detail as the reply said, with the class of what became of the recipient."""
    if recipient.state is State.EXPIRED:
        return _EXPIRED
    if recipient.reason:
        return _BY_ADMIN
    code = enhanced_code(recipient.reply or "")
    if code is None or (code[0] == "2") != (kind == "success"):
        return f"{_CLASSES[kind]}.0.0"
    # Some servers write the class of another outcome (`552 4.2.2`); subject and detail are right all the same.
    return f"{_CLASSES[kind]}{code[1:]}"


def _addresses(recipient: Recipient, *, utf8: bool) -> str:
    fields = ""
    if recipient.orcpt:
        kind, separator, value = recipient.orcpt.partition(";")
        if separator:
            fields = field("Original-Recipient", f"{printable(kind)};{xtext(value, utf8=utf8)}")
    # RFC 6533 §3: an address with characters beyond ASCII is of type utf-8.
    kind = "rfc822" if recipient.address.isascii() or not utf8 else "utf-8"
    return fields + field("Final-Recipient", f"{kind};{printable(recipient.address, utf8=utf8)}")


def _answer(recipient: Recipient, *, utf8: bool) -> str:
    """Who gave the last answer (RFC 3464 §2.3.5), and what it was (§2.3.6)."""
    if recipient.reason:
        return field("Diagnostic-Code", f"X-Relay; {ended_by_admin(recipient, utf8=utf8)}")
    if not recipient.reply:
        return ""
    answer = printable(recipient.reply, utf8=utf8)
    answered = is_reply(answer)
    # The server is named with the answer it gave. Of a message that expired the last one that answered is named, even
    # where the last attempt of all reached nobody.
    named = recipient.remote and (answered or recipient.state is State.EXPIRED)
    mta = field("Remote-MTA", f"dns; {mta_name(recipient.remote or '')}") if named else ""
    return mta + field("Diagnostic-Code", f"{'smtp' if answered else 'X-Relay'}; {answer}")
