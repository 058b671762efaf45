"""Short forms for tests that drive our SMTP client against the scripted receiver."""

from typing import Any

from relay.smtp.client.connect import connect
from relay.smtp.client.connection import Connection
from relay.smtp.client.model import Outgoing, OutgoingRecipient, Target, Timeouts, TlsPolicy
from relay.smtp.client.tls import ClientTls
from tests.support.certificates import client_context
from tests.support.receiver import Receiver

TLS = ClientTls(client_context())
SHORT = Timeouts(connect=0.5, command=0.4, handshake=0.4, data=0.4, block=0.4, end=0.4, envelope=2.0, quit=0.2)
"""For peers that hang."""


async def dial(receiver: Receiver, policy: TlsPolicy = TlsPolicy.OPPORTUNISTIC, **more: Any) -> Connection:
    """Connect to the receiver under its own name."""
    target = Target(more.pop("host", receiver.hostname), more.pop("address", receiver.address), receiver.port)
    arguments: dict[str, Any] = {
        "hostname": "c.test",
        "tls": TLS,
        "credentials": None,
        "source": None,
        "timeouts": Timeouts(),
    }
    return await connect(target, policy, **{**arguments, **more})


def outgoing(*recipients: str, content: bytes = b"Subject: x\r\n\r\nbody\r\n", **more: Any) -> Outgoing:
    """A message from s@ext.test."""
    to = [OutgoingRecipient(address) for address in recipients or ("r@y.test",)]
    return Outgoing(more.pop("sender", "s@ext.test"), to, content, more.pop("size", len(content)), **more)


def codes(result: Any) -> list[int]:
    """The reply codes of a result."""
    return [reply.code for reply in result.replies]
