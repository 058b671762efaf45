"""Runs the sandbox's receiver: the relay's own server session on a loopback port, with `SandboxHandler`.

It runs in a separate process (`relay.process.receiver`). The only client is the relay, so no protection against
strangers is needed: the limits are wide, and a message that the relay accepted is never too large.
"""

import asyncio
import socket
from pathlib import Path

import msgspec

from relay.sandbox.handler import SandboxHandler
from relay.sandbox.store import SandboxStore
from relay.smtp.server.connections import Connections
from relay.smtp.server.context import ServerContext
from relay.smtp.server.listen import drain, serve
from relay_config.schema import Limits, Listener, Settings
from relay_config.words import Size

_GRACE = 1.0
"""Seconds that running transactions have to finish when the receiver stops."""
_ROOM = 1 << 20
"""Bytes that the relay may add to a message of the maximum size."""
_HEADER_ROOM = 2
_MANY = 1_000_000


async def run_receiver(settings: Settings, sock: socket.socket) -> None:
    """Receive on a listening socket until cancelled. The settings name the data folder."""
    store = SandboxStore(Path(settings.data_dir) / "sandbox")
    store.prepare()
    context = receiver_context(settings, SandboxHandler(store))
    server = await serve(sock, context)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        server.stop()
        await drain(context.connections, _GRACE)
        await server.stopped()


def receiver_context(settings: Settings, handler: SandboxHandler) -> ServerContext:
    """Return the context that the receiver's sessions share."""
    assert settings.sandbox.receiver is not None, "only a sandbox has a receiver"
    listener = Listener(address=settings.sandbox.receiver, tls="none", auth="off")
    limits = Limits(
        connections=_MANY,
        connections_per_address=_MANY,
        errors=_MANY,
        header_size=Size(settings.limits.header_size * _HEADER_ROOM),
        header_fields=settings.limits.header_fields * _HEADER_ROOM,
        received_fields=settings.limits.received_fields * _HEADER_ROOM,
        data_rate=0,
    )
    submission = msgspec.structs.replace(
        settings.submission,
        max_message_size=Size(settings.submission.max_message_size + _ROOM),
    )
    receiving = msgspec.structs.replace(
        settings, hostname=f"sandbox.{settings.hostname}", limits=limits, submission=submission
    )
    return ServerContext.from_settings(receiving, listener, handler, None, Connections())
