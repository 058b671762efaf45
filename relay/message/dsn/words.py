"""The human-readable part of a notification: what happened, to which recipient, why, and what to do."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relay.message.date import stamp
from relay.message.dsn.fields import ended_by_admin, enhanced_code, is_reply, printable, server_name
from relay.message.dsn.wanted import Kind
from relay_queue.model import Recipient
from relay_queue.states import State

_WIDTH = 74

SUBJECTS: dict[Kind, str] = {
    "failure": "Your message could not be delivered",
    "delay": "Your message is delayed",
    "success": "Your message was handed on",
}

_DO_CHECK = "Check the address for typing errors, then write again."
_DO_OTHER = "Reach the recipient another way; their mail administrator can put this right."
_DO_LATER = "Send it again later, or reach the recipient another way."
_DO_SMALLER = "Send a smaller message, or share large files by a link."
_DO_CONTENT = "The address is right. Change the message, or reach the recipient another way."
_DO_SERVER = "The address is right. Tell your mail administrator, who can put this right with the receiving side."
_DO_ADMIN = "If you did not expect this, ask your mail administrator."

_ADVICE: dict[str, tuple[str, str]] = {
    "1.0": ("The address was refused.", _DO_CHECK),
    "1.1": ("The address does not exist there.", _DO_CHECK),
    "1.2": ("The part after the @ is not a mail domain.", _DO_CHECK),
    "1.3": ("The address is not valid.", _DO_CHECK),
    "1.6": ("The recipient has moved.", "Ask the recipient for their new address."),
    "1.10": ("The domain accepts no mail.", _DO_CHECK),
    "2.1": ("The mailbox is disabled.", _DO_OTHER),
    "2.2": ("The mailbox is full.", _DO_LATER),
    "2.3": ("The message is too large for the mailbox.", _DO_SMALLER),
    "3.4": ("The message is too large for the receiving server.", _DO_SMALLER),
    "4.1": ("The receiving server did not answer.", _DO_LATER),
    "4.4": ("No server for this domain could be found.", _DO_CHECK),
    "4.6": ("The message went round in a circle.", _DO_OTHER),
    "4.7": ("It could not be delivered in the time allowed.", _DO_LATER),
    "6.7": ("The receiving server cannot handle the international address.", _DO_OTHER),
    "7": ("The receiving server refused it by its rules.", _DO_ADMIN),
}
_ABOUT_ADDRESSES = frozenset({"0", "1", "2"})
"""Subjects of enhanced codes that concern the address or the mailbox, or are unspecified."""
_BY_FAILURE: dict[str, tuple[str, str]] = {
    "policy": ("The receiving server refused it by its rules.", _DO_ADMIN),
    "reputation": ("The receiving server does not accept mail from this mail server.", _DO_SERVER),
    "relay_denied": ("The receiving server does not accept mail for this domain.", _DO_OTHER),
    "content": ("The receiving server refused what the message says or how it is built.", _DO_CONTENT),
    "throttled": ("The receiving server limits how much mail it takes.", _DO_LATER),
    "tls": ("The receiving server requires encryption that could not be agreed on.", _DO_SERVER),
    "auth": ("The receiving server requires a login.", _DO_SERVER),
    "mailbox_full": _ADVICE["2.2"],
    "size": _ADVICE["3.4"],
}
"""Replies that are not about the address. They take precedence over the enhanced code, because many servers refuse a
sender or a host with X.1.0 or X.1.1, and a bounce with "the address does not exist" makes people delete good
addresses."""


@dataclass(slots=True, frozen=True)
class Facts:
    """The facts of the text besides the recipients."""

    kind: Kind
    hostname: str
    received_at: float
    subject: str
    """The original Subject, printable; empty when there was none."""
    expires_at: float | None
    """End of the attempts, in seconds since the epoch."""


def text(facts: Facts, recipients: Sequence[Recipient]) -> str:
    """Return the whole part, with LF line ends."""
    paragraphs = [f"This is the mail server {facts.hostname}.", _opening(facts, len(recipients))]
    if facts.subject:
        paragraphs.append(f"Subject: {facts.subject}")
    blocks = ["\n".join(textwrap.wrap(paragraph, _WIDTH)) for paragraph in paragraphs]
    blocks.extend(_recipient(facts, recipient) for recipient in recipients)
    blocks.append("\n".join(textwrap.wrap(_closing(facts.kind), _WIDTH)))
    return "\n\n".join(blocks) + "\n"


def _opening(facts: Facts, count: int) -> str:
    whom = "this recipient" if count == 1 else f"these {count} recipients"
    handed_in = f"Your message of {stamp(facts.received_at)}"
    if facts.kind == "failure":
        return f"{handed_in} could not be delivered to {whom}. It will not be tried again."
    if facts.kind == "success":
        return (
            f"{handed_in} was handed to the next mail server for {whom}. That server does not confirm delivery, so "
            "this is the last you will hear of it unless it fails."
        )
    until = f" until {stamp(facts.expires_at)}" if facts.expires_at is not None else ""
    return (
        f"{handed_in} has not yet been delivered to {whom}. It will be tried again{until}; you need not send it again."
    )


def _recipient(facts: Facts, recipient: Recipient) -> str:
    lines = [f"<{printable(recipient.address, utf8=True)}>"]
    if facts.kind != "success":
        why, what = _advice(facts.kind, recipient)
        if why:
            lines.extend(_indented(why))
        for sentence in _answers(recipient):
            lines.extend(_indented(sentence))
        if what:
            lines.extend(_indented(what))
    return "\n".join(lines)


def _answers(recipient: Recipient) -> Iterator[str]:
    """Yield who replied, and the reply."""
    if recipient.reason:
        yield ended_by_admin(recipient, utf8=True)
    if not recipient.reply:
        return
    answer = printable(recipient.reply, utf8=True)
    if recipient.remote and is_reply(answer):
        yield f"{server_name(recipient.remote)} said: {answer}"
        return
    yield f"The last attempt ended with: {answer}"
    if recipient.remote and recipient.state is State.EXPIRED:
        yield f"The last server that answered was {server_name(recipient.remote)}."


def _advice(kind: Kind, recipient: Recipient) -> tuple[str, str]:
    """Return the reason, and what the sender can do."""
    if recipient.reason:
        return "", _DO_ADMIN
    why, what = _known(recipient)
    if kind == "delay":
        return why, ""
    if recipient.state is State.EXPIRED:
        return f"{_ADVICE['4.7'][0]} {why}".strip(), _DO_LATER
    return why, what


def _known(recipient: Recipient) -> tuple[str, str]:
    code = enhanced_code(recipient.reply or "")
    subject, _, detail = (code or "0.0.0").partition(".")[2].partition(".")
    by_code = _ADVICE.get(f"{subject}.{detail}") or _ADVICE.get(subject)
    by_failure = _BY_FAILURE.get(recipient.failure or "")
    if by_failure is not None and (subject in _ABOUT_ADDRESSES or by_code is None):
        return by_failure
    return by_code or (_ADVICE["1.1"] if recipient.failure == "unknown_user" else ("", _DO_ADMIN))


def _indented(paragraph: str) -> list[str]:
    return textwrap.wrap(paragraph, _WIDTH, initial_indent="    ", subsequent_indent="    ")


def _closing(kind: Kind) -> str:
    if kind == "failure":
        return "The next part is for programs; the last one is what you sent, or its header."
    return "The next part is for programs; the last one is the header of what you sent."
