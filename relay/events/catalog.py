"""The catalog of all events: name, severity, fields and meaning, each defined once.

The log, the event store and `docs/reference/events.md` are derived from these records (`python -m
relay.events.reference` writes the page; a test compares it). A field that is None or empty is left out. Fields must not
contain secrets, such as passwords or the content of mail.
"""

import enum
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec


class Level(enum.IntEnum):
    """Severity, as `log.level` names it."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


def _doc(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class Event(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Base of all events. Fields with their default value are not written."""


class Accepted(Event, kw_only=True, omit_defaults=True):
    """A message lies durably in the queue."""

    id: Annotated[str, _doc("Queue id of the message.")]
    header_id: Annotated[str | None, _doc("Message-ID of its header, the relay's own where it had none.")] = (
        msgspec.field(name="message_id", default=None)
    )
    sender: Annotated[str, _doc("Reverse-path; empty for `<>`.")] = msgspec.field(name="from")
    recipients: Annotated[tuple[str, ...], _doc("The first 20 recipients.")] = msgspec.field(name="to")
    count: Annotated[int, _doc("Recipients in all.")]
    size: Annotated[int, _doc("Octets.")]
    origin: Annotated[str, _doc("How it came: `smtp`, `dsn`, `cli`.")]
    user: Annotated[str | None, _doc("Who authenticated.")] = None
    peer: Annotated[str | None, _doc("Client's address.")] = None
    helo: Annotated[str | None, _doc("What the client called itself.")] = None
    listener: Annotated[str | None, _doc("Where it connected to.")] = None
    tls: Annotated[str | None, _doc("TLS version and cipher.")] = None


class Refused(Event, kw_only=True, omit_defaults=True):
    """A client's command was answered 4xx or 5xx."""

    peer: Annotated[str, _doc("Client's address.")]
    command: Annotated[str, _doc("The command refused.")]
    reply: Annotated[str, _doc("What it was answered.")]
    listener: Annotated[str, _doc("Where it connected to.")]
    helo: Annotated[str, _doc("What the client called itself.")] = ""
    user: Annotated[str | None, _doc("Who authenticated.")] = None
    tls: Annotated[str | None, _doc("TLS version and cipher.")] = None


class Authenticated(Event, kw_only=True, omit_defaults=True):
    """An AUTH attempt ended."""

    peer: Annotated[str, _doc("Client's address.")]
    user: Annotated[str, _doc("The user name given.")]
    listener: Annotated[str, _doc("Where it connected to.")]
    helo: Annotated[str, _doc("What the client called itself.")] = ""
    tls: Annotated[str | None, _doc("TLS version and cipher.")] = None


class TlsFailed(Event, kw_only=True, omit_defaults=True):
    """A TLS handshake with a client failed, or the client left right after it and before its first command."""

    peer: Annotated[str, _doc("Client's address.")]
    listener: Annotated[str, _doc("Where it connected to.")]
    reason: Annotated[str, _doc("Why it failed, as far as the relay knows.")]
    helo: Annotated[str, _doc("What the client called itself before STARTTLS.")] = ""
    versions: Annotated[tuple[str, ...], _doc("TLS versions that the client offered, or the one agreed on.")] = ()
    ciphers: Annotated[tuple[str, ...], _doc("The first 10 ciphers that it offered, or the one agreed on.")] = ()
    name: Annotated[str, _doc("The server name that it asked for (SNI).")] = ""


class Omitted(Event, kw_only=True, omit_defaults=True):
    """A client caused more of these events in a minute than are recorded one by one (`limits.client_events`)."""

    peer: Annotated[
        str, _doc("Client's address, its /64 network where that is IPv6, or `others`: several clients together.")
    ]
    what: Annotated[str, _doc("Name of the events: `refused`, `authentication-failed` or `tls-failed`.")]
    count: Annotated[int, _doc("How many were not recorded.")]
    message: Annotated[str, _doc("The same in words, e.g. `… and 1,234 more`.")]


class Outcome(Event, kw_only=True, omit_defaults=True):
    """An attempt at a recipient ended, or an admin's wish was carried out."""

    id: Annotated[str, _doc("Queue id of the message.")]
    n: Annotated[int, _doc("Position of the recipient in the message, from 0.")]
    sender: Annotated[str, _doc("Reverse-path; empty for `<>`.")] = msgspec.field(name="from")
    recipient: Annotated[str, _doc("Forward-path.")] = msgspec.field(name="to")
    attempts: Annotated[int, _doc("Attempts so far.")]
    delay: Annotated[float, _doc("Seconds since the message was received.")]
    user: Annotated[str | None, _doc("Who submitted it.")] = None
    lane: Annotated[str | None, _doc("Site or smarthost.")] = None
    remote: Annotated[str | None, _doc("Who answered: `host[address]:port`.")] = None
    reply: Annotated[str | None, _doc("The answer, or what went wrong.")] = None
    failure: Annotated[str | None, _doc("Class of the failure.")] = None
    reason: Annotated[str | None, _doc("Why an administrator held, dropped or failed it.")] = None
    wait: Annotated[float | None, _doc("Seconds until the next attempt.")] = None


class Notified(Event, kw_only=True, omit_defaults=True):
    """A delivery status notification was queued."""

    id: Annotated[str, _doc("Queue id of the message it is about.")]
    kind: Annotated[str, _doc("`failure`, `delay` or `success`.")]
    recipient: Annotated[str, _doc("Who is notified: the message's sender.")] = msgspec.field(name="to")
    dsn: Annotated[str, _doc("Queue id of the notification.")]


class LaneChanged(Event, kw_only=True, omit_defaults=True):
    """Deliveries to a site paused, or went on."""

    lane: Annotated[str, _doc("Site or smarthost.")]
    what: Annotated[str, _doc("`paused` or `resumed`.")]
    reason: Annotated[str, _doc("Why.")] = ""
    wait: Annotated[float | None, _doc("Seconds until it goes on.")] = None


class Steered(Event, kw_only=True, omit_defaults=True):
    """An admin acted on the queue, its suspensions or users."""

    action: Annotated[str, _doc("What was done.")]
    count: Annotated[int, _doc("How many recipients, suspensions or users it touched.")]
    who: Annotated[str, _doc("Who did it.")]
    filters: Annotated[
        str, _doc("How it was selected: the ids and options of the command; of many ids the first 20.")
    ] = ""
    reason: Annotated[str | None, _doc("Why, where a reason was given.")] = None


class Process(Event, kw_only=True, omit_defaults=True):
    """The relay started, stopped, reloaded, lost a worker."""

    what: Annotated[str, _doc("What happened.")]
    details: Annotated[
        dict[str, str | int | float], _doc("More about it, by name; fields of their own in logfmt.")
    ] = {}


class Problem(Event, kw_only=True, omit_defaults=True):
    """An internal fault. One that repeats is told again after a minute, with the number of times."""

    where: Annotated[str, _doc("The part of the relay that met it.")]
    error: Annotated[str, _doc("Type and text.")]
    repeated: Annotated[int | None, _doc("Times it was kept back since it was last told.")] = None
    trace: Annotated[str, _doc("Python's traceback.")] = ""


class Diagnostic(Event, kw_only=True, omit_defaults=True):
    """A library's warning, through Python's `logging`."""

    logger: Annotated[str, _doc("Which library.")]
    message: Annotated[str, _doc("What it says.")]
    trace: Annotated[str, _doc("Python's traceback.")] = ""


class LinesLost(Event, kw_only=True, omit_defaults=True):
    """Lines could not be written: the disk is full or failing, or nobody reads the log."""

    output: Annotated[str, _doc("`log` or `store`.")]
    count: Annotated[int, _doc("Lines lost since this was last told.")]
    reason: Annotated[str, _doc("Why the last of them was lost.")] = ""


@dataclass(slots=True, frozen=True)
class Kind:
    """One event's name and severity."""

    name: str
    level: Level
    record: type[Event]
    text: str
    """Meaning of the event, if several events share the record; otherwise empty."""


KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("accepted", Level.INFO, Accepted, ""),
        Kind("refused", Level.INFO, Refused, ""),
        Kind("authenticated", Level.INFO, Authenticated, "A client proved who it is."),
        Kind("authentication-failed", Level.WARNING, Authenticated, "A client did not prove who it is."),
        Kind("tls-failed", Level.INFO, TlsFailed, ""),
        Kind("omitted", Level.INFO, Omitted, ""),
        Kind("delivered", Level.INFO, Outcome, "The next server took responsibility for a recipient."),
        Kind("deferred", Level.INFO, Outcome, "An attempt failed for now; the recipient is tried again."),
        Kind("failed", Level.WARNING, Outcome, "A recipient was refused for good, or failed by an admin."),
        Kind("expired", Level.WARNING, Outcome, "A recipient was given up after `retry.expire_after`."),
        Kind("held", Level.INFO, Outcome, "A recipient was set aside by an admin."),
        Kind("dropped", Level.INFO, Outcome, "A recipient was removed by an admin without telling the sender."),
        Kind("quarantined", Level.ERROR, Outcome, "A recipient was set aside: its message on disk is damaged."),
        Kind("notified", Level.INFO, Notified, ""),
        Kind("lane", Level.WARNING, LaneChanged, ""),
        Kind("steered", Level.INFO, Steered, ""),
        Kind("process", Level.INFO, Process, ""),
        Kind("problem", Level.ERROR, Problem, ""),
        Kind("diagnostic", Level.WARNING, Diagnostic, ""),
        Kind("lines-lost", Level.ERROR, LinesLost, ""),
    )
}
