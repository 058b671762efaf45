"""The queue's nouns: messages, recipients, what is asked of them and what happened to them.

Plain records without behaviour. Times are seconds since the epoch (float, UTC); sizes are bytes; addresses and domains
are text (domains are lower-case A-labels). Every backend stores exactly these fields. A new field is added here, and as
a column in a new migration of `relay_queue.sqlite`; column lists, bindings and decoding are generated from the fields.
"""

import enum

import msgspec

from relay_queue.states import State

DEFAULT_STREAM = "transactional"
"""The stream of mail that names no other."""
LOCAL_NODE = "local"
"""The node of a queue that is not shared between machines."""


class Destination(msgspec.Struct, frozen=True, order=True):
    """What due mail is found and claimed by: known when a message is accepted, and never changed by DNS."""

    domain: str
    """Lower-case A-label domain, or an address literal with its brackets."""
    stream: str = DEFAULT_STREAM
    """The class of mail, as `[stream]` in the settings names it."""


class Owner(msgspec.Struct, frozen=True):
    """Who may claim recipients and mark them: one worker process, from its start to its end."""

    node: str
    """The machine, by a name that does not change while it has leases. A data folder belongs to one node."""
    worker: int
    """The worker's number on its node, from 0."""
    lease: int
    """The number under which the queue knows this owner. It is never used again, so a worker that was believed dead
    cannot mark what its successor has claimed."""


class SuspensionKind(enum.StrEnum):
    """What a suspension names. The values are stored in databases: never change one, only append."""

    DOMAIN = "domain"
    """A recipient domain."""
    SITE = "site"
    """A lane's name, with `*` and `?` as wildcards."""
    USER = "user"
    """The user who submitted the mail."""


class Message(msgspec.Struct, kw_only=True):
    """What all recipients of one submission share."""

    id: str
    """UUIDv7 as 26 characters of base32 (`relay_queue.ids`); sorts by time of receipt."""
    received_at: float
    """When the last byte of the message arrived."""
    sender: str
    """Reverse-path without angle brackets; empty for the null sender `<>` (RFC 5321 §4.5.5)."""
    size: int
    """Bytes of the message as it goes on the wire, before dot-stuffing."""
    user: str | None = None
    """Who authenticated, if anyone did."""
    origin: str = "smtp"
    """How it came to be: `smtp`, `dsn`, `cli` (later `http`)."""
    envid: str | None = None
    """ENVID as sent, still in xtext (RFC 3461 §4.4)."""
    ret: str | None = None
    """RET: `FULL`, `HDRS`, or None when not given (RFC 3461 §4.3)."""
    eightbit: bool = False
    """BODY=8BITMIME was declared, or the content has octets above 127 (RFC 6152)."""
    smtputf8: bool = False
    """The next server must support SMTPUTF8 (RFC 6531 §3.4)."""
    header_id: str | None = None
    """The Message-ID of its header with its angle brackets; None where the header has none that can be read."""
    stream: str = DEFAULT_STREAM
    """The class of mail; its recipients carry it as well."""
    tags: tuple[str, ...] = ()
    """Words by which the sender groups messages."""
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    """What the sender wants to see again in events and in the history."""
    idempotency_key: str | None = None
    """The sender's name for this submission: submitting the same key again must not send a second message."""
    not_before: float | None = None
    """Recipients are not due before this time; None: due at once."""
    expires_at: float | None = None
    """When to give up, in place of the stream's expiry and `retry.expire_after`; None: those apply."""


class Recipient(msgspec.Struct, kw_only=True):
    """One forward-path of one message: the unit of delivery."""

    message_id: str
    n: int
    """Position among the message's recipients, from 0; (message_id, n) is the key."""
    address: str
    """Forward-path without angle brackets, as given (local part's case kept)."""
    domain: str
    """Lower-case A-label domain of the address, or an address literal with its brackets."""
    stream: str = DEFAULT_STREAM
    """The message's stream; with `domain` the key of scheduling (`Destination`)."""
    notify: str | None = None
    """NOTIFY: `NEVER` or a comma list of SUCCESS,FAILURE,DELAY; None when not given (RFC 3461 §4.1)."""
    orcpt: str | None = None
    """ORCPT as sent: `addr-type;xtext` (RFC 3461 §4.2)."""
    state: State = State.QUEUED
    owner: int | None = None
    """Lease of the worker that has claimed it (`Owner.lease`); only while ACTIVE."""
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

    @property
    def destination(self) -> Destination:
        """The key by which it is found and claimed."""
        return Destination(self.domain, self.stream)


class Body(msgspec.Struct, frozen=True):
    """A message's bytes, as they go on the wire before dot-stuffing.

    Small messages are all in `head`. Of a large one `head` is the header block with its blank line, and `file` names
    a file in the queue's body folder with the rest.
    """

    head: bytes
    file: str | None = None
    file_size: int = 0
    """Bytes in `file`. If the file has another size when it is opened, the message is quarantined."""
    file_crc: int | None = None
    """CRC-32 of the bytes in `file`; known once the body was read back from the queue, not needed for `put`."""


class Entry(msgspec.Struct, frozen=True):
    """A message with all or some of its recipients: what is put, claimed and listed."""

    message: Message
    recipients: list[Recipient]


class Put(msgspec.Struct, frozen=True):
    """A message to be stored with its body. Recipients are QUEUED or, if already claimed, ACTIVE with an owner."""

    entry: Entry
    body: Body


class Mark(msgspec.Struct, kw_only=True):
    """What became of one claimed recipient. It is refused when the recipient is no longer ACTIVE with `owner`."""

    message_id: str
    n: int
    owner: int
    """Lease under which the recipient was claimed (`Owner.lease`)."""
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
    """One recipient's end, kept in the history for `history.keep`. Fields that `Message` has too are copied from it."""

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
    reason: str | None = None
    """Why an administrator dropped or failed it."""
    header_id: str | None = None
    stream: str = DEFAULT_STREAM
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    idempotency_key: str | None = None
    not_before: float | None = None
    expires_at: float | None = None


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which live recipients an admin means. Fields combine with AND; the tuple fields are OR within. Empty: all."""

    ids: tuple[str, ...] = ()
    """Message ids, or `ID/n` for one recipient."""
    sender: str | None = None
    sender_domain: str | None = None
    recipient: str | None = None
    domain: str | None = None
    stream: str | None = None
    site: str | None = None
    """Lane name, with `*` and `?` as wildcards."""
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
    """`received_at` of the oldest live message."""
    next_due: float | None = None


class Suspension(msgspec.Struct, frozen=True, kw_only=True):
    """A stop of deliveries, by an admin or by the relay itself."""

    id: int
    kind: SuspensionKind
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
    """Of the recipients, those that a worker has claimed: the worker carries the action out when their attempt ends."""
    entries: list[Entry] = msgspec.field(default_factory=list)
    """The recipients that were changed (on a dry run: would be touched), of the first 1,000 messages."""


class Integrity(msgspec.Struct, frozen=True):
    """What came of examining how the queue is stored."""

    faults: tuple[str, ...]
    """Damage that was found, a sentence each; empty where there is none."""
    whole: bool
    """False: the time was up before everything was examined."""
