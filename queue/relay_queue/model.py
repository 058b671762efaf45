"""The records of the queue: messages, recipients, pending actions on them, and their outcomes.

Plain records without behaviour. Times are seconds since the epoch (float, UTC); sizes are bytes; addresses and domains
are text (domains are lower-case A-labels). Every backend stores exactly these fields. A new field is added here, and as
a column in a new migration of `relay_queue.sqlite`; column lists, bindings and decoding are generated from the fields.
"""

import enum

import msgspec

from relay_queue.states import State

DEFAULT_STREAM = "transactional"
"""The stream of a message that names none."""
LOCAL_NODE = "local"
"""The node of a queue that is not shared between machines."""


class Destination(msgspec.Struct, frozen=True, order=True):
    """The key by which due mail is found and claimed: fixed when a message is accepted; DNS never changes it."""

    domain: str
    """Lower-case A-label domain, or an address literal with its brackets."""
    stream: str = DEFAULT_STREAM
    """The class of mail, as `[stream]` in the settings names it."""


class Owner(msgspec.Struct, frozen=True):
    """Who may claim recipients and mark them: one worker process, from its start to its end."""

    node: str
    """The machine's name, which must not change while it has leases. A data folder belongs to one node."""
    worker: int
    """The worker's number on its node, from 0."""
    lease: int
    """The number that identifies this owner in the queue. It is never reused, so a worker that was believed dead
    cannot mark what its successor has claimed."""


class SuspensionKind(enum.StrEnum):
    """What a suspension applies to. The values are stored in databases: never change one, only append."""

    DOMAIN = "domain"
    """A recipient domain."""
    SITE = "site"
    """A lane name; `*` and `?` are wildcards."""
    USER = "user"
    """The user who submitted the mail."""


class Message(msgspec.Struct, kw_only=True):
    """The data that all recipients of one submission share."""

    id: str
    """UUIDv7 as 26 characters of base32 (`relay_queue.ids`); sorts by time of receipt."""
    received_at: float
    """When the last byte of the message arrived."""
    sender: str
    """Reverse-path without angle brackets; empty for the null sender `<>` (RFC 5321 §4.5.5)."""
    size: int
    """Size in bytes as sent on the wire, before dot-stuffing."""
    user: str | None = None
    """The authenticated user, if any."""
    origin: str = "smtp"
    """How the message was created: `smtp`, `dsn`, `cli` (later `http`)."""
    envid: str | None = None
    """ENVID as sent, still in xtext (RFC 3461 §4.4)."""
    ret: str | None = None
    """RET: `FULL`, `HDRS`, or None when not given (RFC 3461 §4.3)."""
    eightbit: bool = False
    """BODY=8BITMIME was declared, or the content has bytes above 127 (RFC 6152)."""
    smtputf8: bool = False
    """The next server must support SMTPUTF8 (RFC 6531 §3.4)."""
    header_id: str | None = None
    """The header's Message-ID with its angle brackets; None if it is missing or cannot be parsed."""
    stream: str = DEFAULT_STREAM
    """The class of mail; its recipients carry it as well."""
    tags: tuple[str, ...] = ()
    """Labels by which the sender groups messages."""
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    """Data from the sender that is repeated in events and in the history."""
    idempotency_key: str | None = None
    """The sender's name for this submission: submitting the same key again must not send a second message."""
    not_before: float | None = None
    """Recipients are not due before this time; None: due at once."""
    expires_at: float | None = None
    """When to give up. Overrides the stream's expiry and `retry.expire_after`; None: those apply."""


class Recipient(msgspec.Struct, kw_only=True):
    """One forward-path of one message: the unit of delivery."""

    message_id: str
    n: int
    """Position among the message's recipients, from 0; (message_id, n) is the key."""
    address: str
    """Forward-path without angle brackets, as given (the case of the local part is kept)."""
    domain: str
    """Lower-case A-label domain of the address, or an address literal with its brackets."""
    stream: str = DEFAULT_STREAM
    """The message's stream; together with `domain` the scheduling key (`Destination`)."""
    notify: str | None = None
    """NOTIFY: `NEVER` or a comma list of SUCCESS,FAILURE,DELAY; None when not given (RFC 3461 §4.1)."""
    orcpt: str | None = None
    """ORCPT as sent: `addr-type;xtext` (RFC 3461 §4.2)."""
    state: State = State.QUEUED
    owner: int | None = None
    """Lease of the worker that has claimed it (`Owner.lease`); set only while ACTIVE."""
    attempts: int = 0
    """Number of delivery attempts that have ended."""
    due_at: float = 0.0
    """Time before which it is not tried; meaningful only while QUEUED."""
    lane: str | None = None
    """The lane (site or smarthost) of the last attempt; None before the first."""
    reply: str | None = None
    """The last answer or error, one line of printable text, at most 1,000 characters."""
    remote: str | None = None
    """The server that sent the most recent reply, `host[address]:port`; None before the first reply."""
    reason: str | None = None
    """The administrator's reason for the current hold or for the pending action."""
    failure: str | None = None
    """Class of the last failure (`relay.delivery.outcome`), e.g. `greylisted`, `connect`."""
    delay_notified: bool = False
    """A delay DSN was already sent (at most one is sent)."""
    changed_at: float = 0.0
    """When it entered this state, or when the last attempt ended."""

    @property
    def destination(self) -> Destination:
        """The key by which it is found and claimed."""
        return Destination(self.domain, self.stream)


class Body(msgspec.Struct, frozen=True):
    """A message's bytes as sent on the wire, before dot-stuffing.

    `head` holds a small message completely. For a large message, `head` is the header block with its blank line, and
    `file` names a file in the queue's body folder that holds the rest.
    """

    head: bytes
    file: str | None = None
    file_size: int = 0
    """Size of `file` in bytes. If the file has a different size when it is opened, the message is quarantined."""
    file_crc: int | None = None
    """CRC-32 of the bytes in `file`; set in bodies read from the queue, not needed for `put`."""


class Entry(msgspec.Struct, frozen=True):
    """A message with all or some of its recipients: the unit that is put, claimed and listed."""

    message: Message
    recipients: list[Recipient]


class Put(msgspec.Struct, frozen=True):
    """A message to be stored with its body. Recipients are QUEUED or, if already claimed, ACTIVE with an owner."""

    entry: Entry
    body: Body


class Mark(msgspec.Struct, kw_only=True):
    """The outcome for one claimed recipient. It is refused if the recipient is no longer ACTIVE with `owner`."""

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
    """The server that replied, `host[address]:port`; None if none did."""
    delay_notified: bool = False


class Ended(msgspec.Struct, kw_only=True):
    """History entry of an ended recipient, kept for `history.keep`. Fields that `Message` also has are copied."""

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
    """Selects live recipients. Fields combine with AND, the values in a tuple field with OR. Empty selects all."""

    ids: tuple[str, ...] = ()
    """Message ids, or `ID/n` for one recipient."""
    sender: str | None = None
    sender_domain: str | None = None
    recipient: str | None = None
    domain: str | None = None
    stream: str | None = None
    site: str | None = None
    """Lane name; `*` and `?` are wildcards."""
    states: tuple[State, ...] = ()
    user: str | None = None
    received_before: float | None = None
    larger_than: int | None = None
    error: str | None = None
    """Text contained in the last reply or in the administrator's reason; case is ignored."""
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
    """An order to stop deliveries, given by an admin or by the relay itself."""

    id: int
    kind: SuspensionKind
    value: str
    reason: str
    created_at: float
    until: float | None = None
    """End time; None: until it is removed."""


class Steered(msgspec.Struct):
    """The result of an admin's action."""

    recipients: int = 0
    messages: int = 0
    requested: int = 0
    """How many of `recipients` are claimed: the worker carries out the action when their attempt ends."""
    entries: list[Entry] = msgspec.field(default_factory=list)
    """The recipients that were changed (in a dry run: would be affected), of the first 1,000 messages."""


class Integrity(msgspec.Struct, frozen=True):
    """The result of an integrity check of the stored queue."""

    faults: tuple[str, ...]
    """The damage found, one sentence per fault; empty if there is none."""
    whole: bool
    """False if the time limit was reached before everything was checked."""
