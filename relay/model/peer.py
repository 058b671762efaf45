"""Who submits a message: the client's end of a session and the identity it proved."""

import ipaddress

import msgspec


class Identity(msgspec.Struct, frozen=True):
    """The user that a client authenticated as."""

    user: str
    """Name of the user, as stored."""
    senders: tuple[str, ...] = ()
    """Sender addresses or domains the user may use: `a@example.org`, `example.org`, or `*`."""
    generation: int = 0
    """The generation of the user file that this was made from; the verifier checks again when there is a newer one."""


class Peer(msgspec.Struct):
    """The client's end of a session, as far as policy and trace fields need it."""

    address: str
    """IP address as text, without port; taken from the PROXY header where that protocol is used."""
    port: int
    listener: str
    """`address` of the listener, as in the settings."""
    helo: str = ""
    """Argument of the last EHLO or HELO."""
    extended: bool = False
    """EHLO was used."""
    tls: str | None = None
    """Protocol version and cipher, e.g. `TLSv1.3 TLS_AES_256_GCM_SHA384`; None without TLS."""
    identity: Identity | None = None
    """The authenticated user; None before authentication."""
    trusted: bool = False
    """The address lies in `submission.trusted_networks`; set by `Handler.connected`."""


class TlsFailure(msgspec.Struct, frozen=True):
    """Why a TLS handshake failed, and what the client offered (or what was negotiated), as far as it is known."""

    reason: str
    """The reason in words, for events and logs."""
    versions: tuple[str, ...] = ()
    """TLS versions, e.g. `TLSv1.1`."""
    ciphers: tuple[str, ...] = ()
    """The first ciphers of the client's list."""
    name: str = ""
    """The server name that the client asked for (SNI)."""


def client_of(address: str) -> str:
    """The client that an address belongs to, for per-client limits: an IPv4 address itself, or an IPv6 /64 network.

    A host usually has a whole /64 (RFC 4291 §2.5.1) and could use a new address for each connection. Text that is not
    an IP address (a name, a socket's path) is returned unchanged.
    """
    if ":" not in address:
        return address
    try:
        ip = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))
