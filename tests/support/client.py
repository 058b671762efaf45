"""Short forms for tests that drive our SMTP client against the scripted receiver."""

from typing import Any

import pytest

from relay.smtp.client.connect import connect
from relay.smtp.client.connection import Connection
from relay.smtp.client.model import Outgoing, OutgoingRecipient, SessionError, Target, Timeouts, TlsPolicy
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


async def refused(receiver: Receiver, policy: TlsPolicy = TlsPolicy.OPPORTUNISTIC, **more: Any) -> SessionError:
    """The error of a connection that does not come about."""
    with pytest.raises(SessionError) as caught:
        await dial(receiver, policy, **more)
    assert str(caught.value).isprintable()
    return caught.value


async def delivers(connection: Connection) -> bool:
    """Whether a message gets through, by the connection's last transaction."""
    result = await connection.send(outgoing())
    await connection.quit()
    return codes(result) == [250]
