"""Who submits a message: the client's end of a session and the identity it proved."""

import ipaddress

import msgspec


class Identity(msgspec.Struct, frozen=True):
    """Who a client proved to be."""

    user: str
    senders: tuple[str, ...] = ()
    """Sender addresses or domains the user may use: `a@example.org`, `example.org`, or `*`."""
    generation: int = 0
    """Which state of the users it was made from; the verifier looks again when there is a newer one."""


class Peer(msgspec.Struct):
    """The client's end of a session, as far as policy and trace fields need it."""

    address: str
    """IP address in text, without port (the PROXY protocol's where that is used)."""
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
    """Who authenticated; None before."""
    trusted: bool = False
    """The address lies in `submission.trusted_networks`; set by `Handler.connected`."""


class TlsFailure(msgspec.Struct, frozen=True):
    """Why a TLS handshake failed, and what the client offered (or what was agreed on), as far as both are known."""

    reason: str
    versions: tuple[str, ...] = ()
    """TLS versions, e.g. `TLSv1.1`."""
    ciphers: tuple[str, ...] = ()
    """The first ciphers of the client's list."""
    name: str = ""
    """The server name that the client asked for (SNI)."""


def client_of(address: str) -> str:
    """Who an address is counted as: an IPv4 address by itself, an IPv6 address by its /64 network.

    A host usually has a whole /64 (RFC 4291 §2.5.1) and could change its address for each connection. An address that
    is none (a name, a socket's path) stands for itself.
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
