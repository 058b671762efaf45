"""Builds a message from the input of `relay send`: options, or bytes on standard input.

Pure. Composing uses the standard library's `email` package, as any client would. A message from standard input is never
parsed by that package; only its line ends are repaired.
"""

import re
from dataclasses import dataclass
from email.errors import MessageError
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8

from relay.cli.exits import FailureError
from relay.message.authors import complete, read
from relay.message.fold import LONGEST
from relay.message.headers import Header
from relay.message.mailboxes import MailboxError, parse
from relay.model.transaction import RecipientPath
from relay.smtp.address import Path, parse_address

_LINE_END = re.compile(rb"\r\n|\r|\n")
_ADDRESSED = (b"to", b"cc", b"bcc")
_FIELDS = 1000


@dataclass(slots=True, frozen=True)
class Letter:
    """A message with its envelope."""

    sender: str
    recipients: tuple[str, ...]
    """The recipients, without duplicates."""
    octets: bytes
    """With CRLF line ends; the header block ends with a blank line."""

    @property
    def long_lines(self) -> bool:
        """Whether a line has more than 998 bytes."""
        return any(len(line) > LONGEST for line in self.octets.split(b"\r\n"))


def composed(sender: str, recipients: tuple[str, ...], subject: str, body: str) -> Letter:
    """A plain text message."""
    sender, recipients = _one_form(sender), _each_once(recipients)
    message = EmailMessage(policy=SMTP if all(map(str.isascii, (sender, *recipients))) else SMTPUTF8)
    try:
        message["From"] = sender
        message["To"] = ", ".join(recipients)
        message["Subject"] = subject
        message.set_content(body if body.endswith("\n") else f"{body}\n")
        octets = message.as_bytes()
    except (ValueError, MessageError, LookupError) as error:
        raise FailureError(f"The message cannot be made: {error}.") from error
    return Letter(sender, recipients, _checked(octets))


def received(
    octets: bytes, sender: str | None, recipients: tuple[str, ...], default_domain: str | None = None
) -> Letter:
    """Return a whole message; missing parts of the envelope are taken from its header.

    Addresses without a domain get `default_domain`.
    """
    octets = _LINE_END.sub(b"\r\n", octets)
    if not octets.strip():
        raise FailureError("No message on standard input.", "Pipe one in, or give --subject and --body.")
    if not octets.endswith(b"\r\n"):
        octets += b"\r\n"
    _checked(octets)
    end = octets.find(b"\r\n\r\n")
    if end < 0:
        octets += b"\r\n"
        end = len(octets) - 4
    header = Header.scan(octets[: end + 4], _FIELDS)
    if sender is None:
        sender = _addresses(header, (b"from",), default_domain)[0]
    if not recipients:
        recipients = tuple(_addresses(header, _ADDRESSED, default_domain))
    return Letter(_one_form(sender), _each_once(recipients), octets)


def _one_form(address: str) -> str:
    """Return an address in the form in which it is sent; an invalid address is unchanged, and refused later."""
    path = parse_address(address)
    return path.address if isinstance(path, Path) else address


def _each_once(recipients: tuple[str, ...]) -> tuple[str, ...]:
    """Return the recipients without duplicates, in the order of their first occurrence."""
    found: dict[str, str] = {}
    for recipient in recipients:
        path = parse_address(recipient)
        if isinstance(path, Path):
            found.setdefault(RecipientPath(path.address, path.domain).mailbox, path.address)
        else:
            found.setdefault(recipient, recipient)
    return tuple(found.values())


def _checked(octets: bytes) -> bytes:
    """Refuse a message that every server would refuse."""
    if b"\0" in octets:
        raise FailureError("The message holds a NUL character, which mail cannot carry.")
    return octets


def _addresses(header: Header, names: tuple[bytes, ...], default_domain: str | None) -> list[str]:
    found: list[str] = []
    for name in names:
        value = header.value(name)
        if value is None:
            continue
        try:
            if name == b"from":
                mailboxes = read(value, default_domain).mailboxes
            else:
                mailboxes = parse(value if default_domain is None else complete(value, default_domain))
            found += [mailbox.address for mailbox in mailboxes]
        except MailboxError as error:
            raise FailureError(f"The {name.decode().title()} field of the message: {error}.") from error
    if not found:
        option = "--from" if names == (b"from",) else "--to"
        raise FailureError(f"The message names no {option[2:]} address.", f"Say it with {option} ADDRESS.")
    return found
