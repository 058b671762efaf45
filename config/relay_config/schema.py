"""The settings: every section, key, default and meaning, once.

`relay.toml.example`, `docs/reference/settings.md`, the environment overrides and `relay check` are all derived from
or checked against these records; a new setting is added here and nowhere else. Values hold plain seconds, octets and
`Rate`s; the words ("5m", "50MiB", "100/s") are turned into them by `relay_config.words`.

A field's `help` is its comment in the example file and its line in the reference.
"""

from typing import Annotated, Literal

import msgspec

from relay_config.schema_base import Section
from relay_config.schema_base import doc as _doc
from relay_config.schema_limits import Limits as Limits  # noqa: PLC0414 - the schema is one place for its users
from relay_config.schema_replies import ReplyRule
from relay_config.words import Duration, Rate, Size


class Listener(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A socket that takes mail."""

    address: Annotated[str, _doc("IP address and port; IPv6 in brackets.", example="0.0.0.0:587", check="endpoint")]
    tls: Annotated[
        Literal["none", "starttls", "implicit"],
        _doc("`starttls` offers it, `implicit` speaks TLS from the first octet (port 465), `none` has no TLS."),
    ] = "starttls"
    auth: Annotated[
        Literal["required", "optional", "off"],
        _doc("Whether clients must authenticate. Trusted networks may relay without where it is `optional` or `off`."),
    ] = "required"
    plaintext_auth: Annotated[
        bool,
        _doc("Offer AUTH without TLS to clients on loopback. Never offered to others, whatever this says."),
    ] = False
    proxy_protocol: Annotated[bool, _doc("Expect a PROXY protocol v1 or v2 header on every connection.")] = False


class Tls(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The server's certificate."""

    certificate: Annotated[
        str | None, _doc("PEM file with the certificate and its chain.", example="/etc/relay/tls.crt", check="file")
    ] = None
    key: Annotated[
        str | None, _doc("PEM file with the private key.", example="/etc/relay/tls.key", check="secret_file")
    ] = None


class Submission(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may hand in mail, and how much at once."""

    trusted_networks: Annotated[
        tuple[str, ...],
        _doc("Networks that may relay without AUTH.", example=["127.0.0.0/8", "::1/128"], check="trusted_networks"),
    ] = ()
    max_message_size: Annotated[Size, _doc("Largest message accepted; announced by SIZE.")] = Size(50 * 1024 * 1024)
    max_recipients: Annotated[int, _doc("Most recipients of one message."), msgspec.Meta(ge=1)] = 1000
    default_domain: Annotated[
        str | None,
        _doc(
            "Domain that completes addresses without one (`root`) in messages of authenticated and trusted clients, in "
            "the envelope and in the header; default: such addresses are refused.",
            example="example.com",
            check="domain",
        ),
    ] = None
    long_lines: Annotated[
        Literal["repair", "refuse"],
        _doc(
            "What happens to messages of authenticated and trusted clients with lines of more than 998 bytes: `repair` "
            "re-encodes or folds them before signing, `refuse` answers 500."
        ),
    ] = "repair"


class Dns(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How names are resolved."""

    nameservers: Annotated[
        tuple[str, ...],
        _doc(
            "Resolvers, `address` or `address:port`; empty: the system's.",
            example=["127.0.0.1:5353"],
            check="nameservers",
        ),
    ] = ()
    timeout: Annotated[Duration, _doc("Longest wait for one look-up with all its repeats.")] = Duration(15)
    cache_size: Annotated[int, _doc("Domains whose routes are remembered."), msgspec.Meta(ge=100)] = 20_000


class Delivery(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How mail is sent to other servers."""

    port: Annotated[int, _doc("Port of recipients' mail servers."), msgspec.Meta(ge=1, le=65535)] = 25
    tls: Annotated[
        Literal["none", "opportunistic", "required", "verify"],
        _doc("`opportunistic`: where offered; `required`: never without; `verify`: with a valid certificate."),
    ] = "opportunistic"
    connect_timeout: Annotated[Duration, _doc("Longest wait for a connection to one address.")] = Duration(30)
    command_timeout: Annotated[
        Duration, _doc("Longest wait for a reply to a command (RFC 5321 §4.5.3.2 asks for five minutes).")
    ] = Duration(300)
    data_timeout: Annotated[Duration, _doc("Longest wait for the reply to a message's end (RFC 5321 §4.5.3.2.6).")] = (
        Duration(600)
    )
    idle_timeout: Annotated[Duration, _doc("How long an idle connection is kept for reuse.", least="0s")] = Duration(5)
    recipients_per_message: Annotated[
        int, _doc("Most recipients in one transaction; fewer if the receiver says so (LIMITS)."), msgspec.Meta(ge=1)
    ] = 100
    addresses_per_host: Annotated[
        int, _doc("Most addresses tried per delivery attempt, over all hosts."), msgspec.Meta(ge=1)
    ] = 8
    ipv4: Annotated[bool, _doc("Use IPv4.")] = True
    ipv6: Annotated[bool, _doc("Use IPv6.")] = True
    source_ipv4: Annotated[
        str | None, _doc("Source address for IPv4; default: the system's choice.", example="192.0.2.25", check="ipv4")
    ] = None
    source_ipv6: Annotated[
        str | None, _doc("Source address for IPv6; default: the system's choice.", example="2001:db8::25", check="ipv6")
    ] = None
    prohibited_networks: Annotated[
        tuple[str, ...], _doc("Addresses that MX look-ups must not lead to (smarthosts may).", check="networks")
    ] = (
        "127.0.0.0/8",
        "0.0.0.0/8",
        "::1/128",
        "::/128",
    )


class Retry(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a deferred message is tried again."""

    schedule: Annotated[
        tuple[Duration, ...], _doc("Waits between attempts; the last repeats.", least="1s"), msgspec.Meta(min_length=1)
    ] = (
        Duration(300),
        Duration(900),
        Duration(3600),
        Duration(7200),
        Duration(14400),
        Duration(28800),
    )
    expire_after: Annotated[
        Duration, _doc("Age at which a message is given up and returned, once tried as often as `schedule` says.")
    ] = Duration(172_800)
    delay_notice_after: Annotated[
        Duration, _doc("Age at which a sender who asked for NOTIFY=DELAY is told of a delay.")
    ] = Duration(14_400)
    jitter: Annotated[float, _doc("Part of each wait that is random."), msgspec.Meta(ge=0, le=0.5)] = 0.1


class Route(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Mail for some domains goes to a smarthost instead of their MX."""

    domains: Annotated[
        tuple[str, ...],
        _doc(
            "Recipient domains: `example.org`, `*.example.org` (sub-domains), `*` (all).",
            example=["*"],
            check="domains",
        ),
        msgspec.Meta(min_length=1),
    ]
    relay_host: Annotated[
        str, _doc("Host and port; IPv6 in brackets.", example="smtp.example.net:587", check="host_port")
    ]
    tls: Annotated[
        Literal["none", "opportunistic", "required", "verify", "implicit"],
        _doc("As in [delivery]; `implicit`: TLS from the first octet, verified."),
    ] = "opportunistic"
    user: Annotated[str | None, _doc("User name for AUTH.", example="relay")] = None
    password_file: Annotated[
        str | None,
        _doc("File whose first line is the password.", example="/etc/relay/smarthost.password", check="password_file"),
    ] = None


class Lane(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one lane (a site or smarthost)."""

    max_connections: Annotated[int, _doc("Open connections."), msgspec.Meta(ge=1)] = 10
    messages_per_connection: Annotated[int, _doc("Messages before a connection is replaced."), msgspec.Meta(ge=1)] = 100
    rate: Annotated[Rate, _doc("Messages started per time, e.g. `100/s`, `1000/h`; `0` stands for no limit.")] = Rate(
        100, 1
    )
    connection_rate: Annotated[Rate, _doc("Connections opened per time; `0` stands for no limit.")] = Rate(10, 1)
    backoff: Annotated[
        Duration, _doc("First pause of a lane after its connections failed; doubles up to `backoff_max`.")
    ] = Duration(30)
    backoff_max: Annotated[Duration, _doc("Longest such pause.")] = Duration(1800)


class LaneOverride(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What differs from [throttle] for some site or domain; keys not given keep [throttle]'s value."""

    max_connections: Annotated[Annotated[int, msgspec.Meta(ge=1)] | None, _doc("Open connections.", example=5)] = None
    messages_per_connection: Annotated[
        Annotated[int, msgspec.Meta(ge=1)] | None, _doc("Messages before a connection is replaced.", example=20)
    ] = None
    rate: Annotated[Rate | None, _doc("Messages started per time.", example="1000/h")] = None
    connection_rate: Annotated[Rate | None, _doc("Connections opened per time.", example="1/s")] = None
    backoff: Annotated[Duration | None, _doc("First pause after failures.", example="1m")] = None
    backoff_max: Annotated[Duration | None, _doc("Longest pause.", example="1h")] = None


class Stream(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named class of mail. Messages name their stream; `transactional` is the default."""

    priority: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=100)] | None,
        _doc(
            "Mail of a stream with a higher priority never waits for mail of a lower one to the same site (default: 10 "
            "for `transactional`, 0 for others).",
            example=0,
        ),
    ] = None
    weight: Annotated[
        int,
        _doc("Share of a site's limits among streams of the same priority."),
        msgspec.Meta(ge=1, le=1000),
    ] = 1
    expire_after: Annotated[
        Duration | None,
        _doc("Age at which a message is given up, in place of `retry.expire_after`.", example="12h"),
    ] = None


class Throttle(Lane, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of every lane, with overrides."""

    site: Annotated[
        dict[str, LaneOverride],
        _doc(
            "By MX host pattern, e.g. `*.google.com`, or smarthost `host:port`.", example="*.google.com", check="sites"
        ),
    ] = msgspec.field(default_factory=dict)
    domain: Annotated[
        dict[str, LaneOverride],
        _doc("By recipient domain, or `*.parent` for all below.", example="example.org", check="domains"),
    ] = msgspec.field(default_factory=dict)


class DkimKey(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One signing key."""

    selector: Annotated[
        str, _doc("Selector: the key is published at `selector._domainkey.domain`.", example="relay", check="selector")
    ]
    key: Annotated[
        str,
        _doc(
            "PEM file with an RSA (2048 bits or more) or Ed25519 private key.",
            example="/etc/relay/dkim/example.com.key",
            check="dkim_key",
        ),
    ]
    expire_after: Annotated[Duration | None, _doc("Validity of signatures (x=); default: no limit.", example="7d")] = (
        None
    )


class Log(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The relay's log."""

    format: Annotated[Literal["logfmt", "json"], _doc("Form of a line.")] = "logfmt"
    destination: Annotated[
        str, _doc("`stderr`, or a file or named pipe (opened again on SIGHUP and SIGUSR1).", check="log")
    ] = "stderr"
    level: Annotated[Literal["debug", "info", "warning", "error"], _doc("Least severity logged.")] = "info"


class History(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is remembered of mail that ended."""

    keep: Annotated[Duration, _doc("How long ended recipients and events are kept.")] = Duration(604_800)
    events_size: Annotated[
        Size | None,
        _doc(
            "Bytes that the event store may have; the oldest events are removed first. Default: a tenth of the file "
            "system, at most 4GiB.",
            example="1GiB",
            least="1MiB",
        ),
    ] = None


class Sandbox(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Try the relay without sending anything out."""

    receiver: Annotated[
        str | None,
        _doc(
            "When set, a receiver built into the relay listens here (loopback only) and all mail goes to it.",
            example="127.0.0.1:2599",
            check="loopback",
        ),
    ] = None


class Settings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of `relay.toml`."""

    hostname: Annotated[
        str,
        _doc(
            "The relay's own name, in greetings and EHLO: a name whose address points back.",
            example="mail.example.com",
            check="hostname",
        ),
    ]
    data_dir: Annotated[str, _doc("Folder of queue, users and events.", check="folder")] = "/var/lib/relay"
    workers: Annotated[int, _doc("Worker processes; 0: one per CPU."), msgspec.Meta(ge=0, le=256)] = 0
    pin_workers: Annotated[
        bool, _doc("Keep each busy worker on a CPU of its own if there are at least as many workers as CPUs.")
    ] = True
    user: Annotated[
        str | None,
        _doc(
            "System user to become after the listeners are bound (when started as root).",
            example="relay",
            check="system_user",
        ),
    ] = None
    listener: Annotated[tuple[Listener, ...], _doc("Sockets that take mail.")] = ()
    tls: Tls = Tls()
    submission: Submission = Submission()
    limits: Limits = Limits()
    dns: Dns = Dns()
    delivery: Delivery = Delivery()
    retry: Retry = Retry()
    route: Annotated[tuple[Route, ...], _doc("Smarthosts; the first that matches a recipient's domain is used.")] = ()
    stream: Annotated[
        dict[str, Stream],
        _doc(
            "Classes of mail. Without settings there are `transactional` (priority 10) and `bulk` (priority 0).",
            example="newsletter",
            check="stream",
        ),
    ] = msgspec.field(default_factory=dict)
    reply_rule: Annotated[
        tuple[ReplyRule, ...],
        _doc(
            "What certain refusals of other servers mean; the first that matches decides, before the built-in rules. "
            "`relay explain-reply` shows which rule decides."
        ),
    ] = ()
    throttle: Throttle = Throttle()
    dkim: Annotated[
        dict[str, tuple[DkimKey, ...]],
        _doc(
            "Signing keys by domain of the From address; one table or an array of tables each.",
            example="example.com",
            check="domain",
            single=True,
        ),
    ] = msgspec.field(default_factory=dict)
    log: Log = Log()
    history: History = History()
    sandbox: Sandbox = Sandbox()
