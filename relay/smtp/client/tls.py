"""The TLS contexts that all of a process's client connections share.

Building a verifying context reads the system's certificates and costs 30-50 ms, so it is done once; a connection costs
only its handshake.
"""

import ssl


class ClientTls:
    """Two contexts: one accepts any certificate, one verifies names against the system's certificate authorities."""

    __slots__ = ("_verifying", "unverified")

    def __init__(self, verifying: ssl.SSLContext | None = None) -> None:
        self.unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        """For opportunistic and required TLS. Protects against eavesdropping; does not authenticate the server."""
        self.unverified.check_hostname = False
        self.unverified.verify_mode = ssl.CERT_NONE
        self._verifying = verifying

    @property
    def verifying(self) -> ssl.SSLContext:
        """For verified and implicit TLS. Built on first use, because many relays never need it."""
        if self._verifying is None:
            self._verifying = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
        return self._verifying
