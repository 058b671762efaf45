"""What makes a lane: everything that two messages must have in common to share connections and limits."""

import msgspec


class LaneKey(msgspec.Struct, frozen=True):
    """The identity of a lane. Two policies never share a lane, so neither can weaken the other.

    People see the lane's name instead (`relay.delivery.routes.Route.name`), which is the site and as much of the rest
    as tells lanes of one site apart.
    """

    site: str
    """The set of MX hosts (sorted, joined by commas) or a smarthost's `host:port`; with `/domain` behind it for a
    domain that has limits of its own."""
    source: str = ""
    """The source addresses that connections are made from; empty: the system's choice."""
    tls: str = "opportunistic"
    """The TLS policy (`relay.smtp.client.model.TlsPolicy`)."""
    transport: str = "smtp"
    """What carries the mail."""
    account: str = ""
    """The credentials at a smarthost or provider, by name; empty: none."""
