"""The machine-readable part of a notification: message/delivery-status (RFC 3464 §2)."""

from collections.abc import Sequence

from relay.message.date import stamp
from relay.message.dsn.fields import ended_by_admin, enhanced_code, field, is_reply, mta_name, printable, xtext
from relay.message.dsn.wanted import Kind
from relay_queue.model import Message, Recipient
from relay_queue.states import State

_ACTIONS: dict[Kind, str] = {"failure": "failed", "delay": "delayed", "success": "relayed"}
_CLASSES: dict[Kind, str] = {"failure": "5", "delay": "4", "success": "2"}
_EXPIRED = "4.4.7"
"""RFC 3463 §3.5. The codes of the attempts are reported in Diagnostic-Code."""
_BY_ADMIN = "5.7.0"
"""An administrator of this relay failed the recipient, whatever the earlier replies were."""


def status(
    kind: Kind,
    message: Message,
    recipients: Sequence[Recipient],
    *,
    hostname: str,
    expires_at: float | None,
    utf8: bool,
) -> str:
    """Return the whole part with CRLF line ends, in ASCII unless `utf8`."""
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
    """Return the Status field: subject and detail from the reply, with the class of the recipient's final outcome."""
    if recipient.state is State.EXPIRED:
        return _EXPIRED
    if recipient.reason:
        return _BY_ADMIN
    code = enhanced_code(recipient.reply or "")
    if code is None or (code[0] == "2") != (kind == "success"):
        return f"{_CLASSES[kind]}.0.0"
    # Some servers send the class of another outcome (`552 4.2.2`), but their subject and detail are correct.
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
    """Return the server that replied last (RFC 3464 §2.3.5), and its reply (§2.3.6)."""
    if recipient.reason:
        return field("Diagnostic-Code", f"X-Relay; {ended_by_admin(recipient, utf8=utf8)}")
    if not recipient.reply:
        return ""
    answer = printable(recipient.reply, utf8=utf8)
    answered = is_reply(answer)
    # A server is named together with its reply. For an expired message, the last server that replied is named, even if
    # the final attempt reached no server.
    named = recipient.remote and (answered or recipient.state is State.EXPIRED)
    mta = field("Remote-MTA", f"dns; {mta_name(recipient.remote or '')}") if named else ""
    return mta + field("Diagnostic-Code", f"{'smtp' if answered else 'X-Relay'}; {answer}")
