"""The sandbox's receiver as a separate child process, so that a failure in it never affects the relay's workers."""

import asyncio
import signal
import socket

from relay.process.supervisor import CHILD_UNBLOCKS, close_ears
from relay.sandbox.serve import run_receiver
from relay_config.schema import Settings


def main(settings: Settings, sock: socket.socket, lifeline: int) -> int:
    """Run in the forked child until SIGTERM or until the supervisor ends; returns the exit status."""
    asyncio.run(_run(settings, sock, lifeline))
    return 0


async def _run(settings: Settings, sock: socket.socket, lifeline: int) -> None:
    loop = asyncio.get_running_loop()
    receiving = loop.create_task(run_receiver(settings, sock))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, receiving.cancel)
    for number in (signal.SIGHUP, signal.SIGUSR1):
        loop.add_signal_handler(number, lambda: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, CHILD_UNBLOCKS)
    loop.add_reader(lifeline, receiving.cancel)
    await asyncio.wait([receiving])
    loop.remove_reader(lifeline)
    close_ears()
    if not receiving.cancelled() and (error := receiving.exception()) is not None:
        raise error
