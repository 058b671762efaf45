"""The key of a lane: everything that two messages must have in common to share connections and limits."""

import msgspec


class LaneKey(msgspec.Struct, frozen=True):
    """The identity of a lane. Two policies never share a lane, so neither can weaken the other.

    Users see the lane's name instead (`relay.delivery.routes.Route.name`): the site, plus as much of the other fields
    as is needed to distinguish the lanes of one site.
    """

    site: str
    """The set of MX hosts (sorted, joined by commas) or a smarthost's `host:port`; followed by `/domain` for a domain
    that has its own limits."""
    source: str = ""
    """The source addresses of connections; empty: the operating system chooses."""
    tls: str = "opportunistic"
    """The TLS policy (`relay.smtp.client.model.TlsPolicy`)."""
    transport: str = "smtp"
    """The name of the transport that carries the mail."""
    account: str = ""
    """The name of the credentials used at a smarthost or provider; empty: none."""
