"""The queue's nouns: messages, recipients, what is asked of them and what happened to them.

Plain records without behaviour. Times are seconds since the epoch (float, UTC); sizes are octets; addresses and domains
are text (domains lower-case A-labels). Every backend stores exactly these fields; add one here, then in each backend's
schema with a migration.
"""

import msgspec

from relay_queue.states import State


class Message(msgspec.Struct, kw_only=True):
    """What all recipients of one submission share."""

    id: str
    """UUIDv7 as 26 characters of base32 (`relay_queue.ids`); sorts by time of receipt."""
    received_at: float
    """When the last octet of the message arrived."""
    sender: str
    """Reverse-path without angle brackets; empty for the null sender `<>` (RFC 5321 §4.5.5)."""
    size: int
    """Octets of the message as it goes on the wire, before dot-stuffing."""
    user: str | None = None
    """Who authenticated, if anyone did."""
    origin: str = "smtp"
    """How it came to be: `smtp`, `dsn`, `cli` (later `http`)."""
    envid: str | None = None
    """ENVID as sent, still in xtext (RFC 3461 §4.4)."""
    ret: str | None = None
    """RET: `FULL`, `HDRS`, or None when not given (RFC 3461 §4.3)."""
    eightbit: bool = False
    """BODY=8BITMIME was declared or the content has octets above 127 (RFC 6152)."""
    smtputf8: bool = False
    """The message needs SMTPUTF8 of the next server (RFC 6531 §3.4)."""
    header_id: str | None = None
    """The Message-ID of its header, usually with angle brackets, at most 998 characters (RFC 5322 §3.6.4). Not unique:
    whoever wrote the message chose it. None where it is not known."""


class Recipient(msgspec.Struct, kw_only=True):
    """One forward-path of one message: the unit of delivery."""

    message_id: str
    n: int
    """Position among the message's recipients, from 0; (message_id, n) is the key."""
    address: str
    """Forward-path without angle brackets, as given (local part's case kept)."""
    domain: str
    """Lower-case A-label domain of the address, or an address literal with its brackets. The key of scheduling."""
    notify: str | None = None
    """NOTIFY: `NEVER` or a comma list of SUCCESS,FAILURE,DELAY; None when not given (RFC 3461 §4.1)."""
    orcpt: str | None = None
    """ORCPT as sent: `addr-type;xtext` (RFC 3461 §4.2)."""
    state: State = State.QUEUED
    owner: int | None = None
    """The worker (its slot number) that has it in hand; only while ACTIVE."""
    attempts: int = 0
    """Delivery attempts ended so far."""
    due_at: float = 0.0
    """Not to be tried before; meaningful while QUEUED."""
    lane: str | None = None
    """The lane (site or smarthost) of the last attempt; None before the first."""
    reply: str | None = None
    """The last answer or error, one line of printable text, at most 1,000 characters."""
    remote: str | None = None
    """The server that gave the last answer there was, `host[address]:port`; None before the first."""
    reason: str | None = None
    """What an administrator gave as the reason for the present hold, or for an action that is still to be done."""
    failure: str | None = None
    """Class of the last failure (`relay.delivery.outcome`), e.g. `greylisted`, `connect`."""
    delay_notified: bool = False
    """A delay DSN was sent already (never twice)."""
    changed_at: float = 0.0
    """When it entered this state, or the last attempt ended."""


class Body(msgspec.Struct, frozen=True):
    """A message's octets, as they go on the wire before dot-stuffing.

    Small messages are all in `head`. Of a large one `head` is the header block with its blank line, and `file` names
    a file in the queue's body folder with the rest.
    """

    head: bytes
    file: str | None = None
    file_size: int = 0
    """Octets in `file`; what the file must measure when it is opened, else the message is quarantined."""
    file_crc: int | None = None
    """CRC-32 of the octets in `file`; known once the body was read back from the queue, not needed for `put`."""


class Entry(msgspec.Struct, frozen=True):
    """A message with all or some of its recipients: what is put, claimed and listed."""

    message: Message
    recipients: list[Recipient]


class Put(msgspec.Struct, frozen=True):
    """A message to be stored with its body (`Recipient.state` QUEUED or, already in hand, ACTIVE with an owner)."""

    entry: Entry
    body: Body


class Mark(msgspec.Struct, kw_only=True):
    """What became of one recipient in hand. Refused quietly when the recipient is no longer ACTIVE with `owner`."""

    message_id: str
    n: int
    owner: int
    state: State
    """QUEUED: deferred until `due_at`. HELD, QUARANTINED, or a final state."""
    at: float
    attempts: int
    """Attempts including this one."""
    due_at: float = 0.0
    reply: str | None = None
    failure: str | None = None
    lane: str | None = None
    remote: str | None = None
    """Who answered, `host[address]:port`; None when nobody did."""
    delay_notified: bool = False


class Ended(msgspec.Struct, kw_only=True):
    """One recipient's end, kept in the history for `history.keep`."""

    message_id: str
    n: int
    address: str
    domain: str
    sender: str
    user: str | None
    size: int
    received_at: float
    ended_at: float
    state: State
    attempts: int
    reply: str | None
    failure: str | None
    lane: str | None
    remote: str | None
    header_id: str | None = None
    """As in `Message`."""
    reason: str | None = None
    """Why an administrator dropped or failed it."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which live recipients an admin means. Fields combine with AND; the tuple fields are OR within. Empty: all."""

    ids: tuple[str, ...] = ()
    """Message ids, or `ID/n` for one recipient."""
    sender: str | None = None
    sender_domain: str | None = None
    recipient: str | None = None
    domain: str | None = None
    site: str | None = None
    """Site, host of a site, or lane name; `*` and `?` as wildcards (`relay_queue.matching`)."""
    states: tuple[State, ...] = ()
    user: str | None = None
    received_before: float | None = None
    larger_than: int | None = None
    error: str | None = None
    """Text contained in the last reply or in an administrator's reason, any case."""
    header_id: str | None = None
    """Message-ID of the header, with or without its angle brackets."""


class Summary(msgspec.Struct, kw_only=True):
    """Counts for one domain."""

    domain: str
    queued: int = 0
    active: int = 0
    held: int = 0
    quarantined: int = 0
    oldest: float | None = None
    """received_at of the oldest live message, if known cheaply."""
    next_due: float | None = None


class Suspension(msgspec.Struct, frozen=True, kw_only=True):
    """A stop of deliveries by an admin or the relay: for a recipient domain, a site (lane name pattern) or a user."""

    id: int
    kind: str
    """`domain`, `site` or `user`."""
    value: str
    reason: str
    created_at: float
    until: float | None = None
    """None: until removed."""


class Steered(msgspec.Struct):
    """What an admin's action touched."""

    recipients: int = 0
    messages: int = 0
    requested: int = 0
    """Of the recipients, those in a worker's hands: it carries the wish out when their attempt ends."""
    entries: list[Entry] = msgspec.field(default_factory=list)
    """The recipients that were changed (on a dry run: would be touched), of the first 1,000 messages."""


class Integrity(msgspec.Struct, frozen=True):
    """What came of examining how the queue is stored."""

    faults: tuple[str, ...]
    """Damage that was found, a sentence each; empty where there is none."""
    whole: bool
    """False: the time was up before everything was examined."""
