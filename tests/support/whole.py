"""A whole relay with a listener of every kind, a raw receiver behind it, and clients that choose who they are.

    with whole(folder) as relay:
        client = await relay.connect("open", stranger=True)
        ...
        (message,) = relay.receiver.messages          # what left, octet by octet

Trusted is 127.0.0.1 alone; a stranger connects from 127.0.0.66. All mail goes to the receiver, as smarthost.
"""

import asyncio
import base64
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from relay.message.dkim.keys import SigningKey
from relay.submission.passwords import seal_password, seal_secret
from relay.submission.users import FILE, User, editing
from tests.support.certificates import client_context, write_pem
from tests.support.dkim_keys import key, pem
from tests.support.raw_smtp import RawClient
from tests.support.receiver import Receiver
from tests.support.receiver_session import Message
from tests.support.running import Relay, free_port

STRANGER = "127.0.0.66"
USER, PASSWORD = "app", "correct-horse-battery-staple"
"""A user whose password is a generated one: no slow hash."""
PERSON, CHOSEN = "person", "Tr0ub4dor&3 is chosen"
"""A user whose password is hashed slowly."""
LISTENERS = {
    "submit": ("starttls", "required"),
    "implicit": ("implicit", "required"),
    "optional": ("starttls", "optional"),
    "open": ("starttls", "off"),
}
"""Name -> (tls, auth). `open` is as port 25 is: no AUTH, relays for trusted networks alone."""
DOMAIN = "sender.test"


class Whole(Relay):
    """The running relay and what is behind it."""

    def __init__(self, folder: Path, receiver: Receiver, settings: dict[str, Any]) -> None:
        self.receiver = receiver
        self.ports = {name: free_port() for name in LISTENERS}
        self.keys: tuple[SigningKey, ...] = (key(DOMAIN, "rsa"), key(DOMAIN, "ed25519"))
        self._numbers = itertools.count(1)
        certificate, private, _ = write_pem(folder)
        signing = []
        for algorithm in ("rsa", "ed25519"):
            path = folder / f"{algorithm}.pem"
            path.write_bytes(pem(algorithm))
            path.chmod(0o600)
            signing.append({"selector": algorithm, "key": str(path)})
        defaults: dict[str, Any] = {
            "listener": [
                {"address": f"127.0.0.1:{self.ports[name]}", "tls": tls, "auth": auth}
                for name, (tls, auth) in LISTENERS.items()
            ],
            "tls": {"certificate": str(certificate), "key": str(private)},
            "submission": {"trusted_networks": ["127.0.0.1/32"]},
            "limits": {"free_disk": "1MiB", "auth_failures_per_minute": 100_000},
            "route": [{"domains": ["*"], "relay_host": f"127.0.0.1:{receiver.port}", "tls": "none"}],
            "dkim": {DOMAIN: signing},
            "throttle": {"rate": "0", "connection_rate": "0", "backoff": "200ms", "backoff_max": "500ms"},
            "retry": {"schedule": ["1s"], "expire_after": "1h", "jitter": 0},
        }
        for name, value in settings.items():
            merged = isinstance(value, dict) and isinstance(defaults.get(name), dict)
            defaults[name] = defaults[name] | value if merged else value
        super().__init__(folder, defaults)
        # The base class waits for the greeting of `plain`.
        self.plain = self.ports["optional"]
        self.data_dir.mkdir(mode=0o700)
        with editing(self.data_dir / FILE) as users:
            users[USER] = User(name=USER, credential=seal_secret(PASSWORD), senders=("*",), created_at=time.time())
            hashed = seal_password(CHOSEN)
            users[PERSON] = User(name=PERSON, credential=hashed, senders=(DOMAIN,), created_at=time.time())

    async def dial(
        self, listener: str, *, stranger: bool = False, source: str = "", greeting: bool = True, **more: Any
    ) -> RawClient:
        """Connect to a listener, as a trusted client, a stranger, or from an address."""
        if listener == "implicit":
            more |= {"ssl": client_context(), "server_hostname": "mx.test"}
        local = (source or (STRANGER if stranger else "127.0.0.1"), 0)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.ports[listener], local_addr=local, limit=1 << 20, **more
        )
        client = RawClient(reader, writer)
        if greeting:
            assert (await client.reply()).startswith("220 ")
        return client

    @contextlib.asynccontextmanager
    async def client(self, listener: str, **more: Any) -> AsyncIterator[RawClient]:
        """A connection that is closed at the end."""
        client = await self.dial(listener, **more)
        try:
            yield client
        finally:
            await client.close()

    @contextlib.asynccontextmanager
    async def user(self, listener: str = "submit") -> AsyncIterator[RawClient]:
        """A stranger who logged in, through TLS."""
        async with self.client(listener, stranger=True) as client:
            if listener != "implicit":
                await secure(client)
            assert await client.code("EHLO c.test") == 250
            assert await client.code(f"AUTH PLAIN {plain(USER, PASSWORD)}") == 235
            yield client

    def token(self) -> str:
        """A word found nowhere else, to tell messages apart."""
        return f"token{next(self._numbers)}x"

    async def took(self, token: str, seconds: float = 20.0) -> Message:
        """The message to `token@rcpt.test`, once the receiver took it."""
        async with asyncio.timeout(seconds):
            while True:
                for message in self.receiver.messages:
                    if any(rcpt.address.startswith(f"{token}@") for rcpt in message.recipients):
                        return message
                await asyncio.sleep(0.02)

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        assert self.process is not None
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def rss(self) -> int:
        """Resident memory of all workers, octets; shared pages count for each."""
        total = 0
        for pid in self.workers():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * 1024
        return total


async def secure(client: RawClient) -> None:
    """EHLO, STARTTLS, the handshake."""
    assert await client.code("EHLO c.test") == 250
    assert await client.code("STARTTLS") == 220
    await client.starttls(client_context())


def plain(user: str, password: str) -> str:
    """The initial response of AUTH PLAIN."""
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()


@contextlib.contextmanager
def whole(folder: Path, *, script: dict[str, Any] | None = None, **settings: Any) -> Iterator[Whole]:
    """A running relay, from code that is not on a loop."""
    with Receiver(**(script or {})).in_thread() as receiver:
        relay = Whole(folder, receiver, settings)
        try:
            asyncio.run(relay.start())
            yield relay
        finally:
            relay.kill()
