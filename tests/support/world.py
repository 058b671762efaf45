"""A small internet on loopback: a DNS server, mail servers at 127.0.0.x that share one port, and a relay among them."""

import asyncio
import contextlib
import smtplib
from collections.abc import AsyncIterator, Mapping, Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from tests.support.dns import MiniDns
from tests.support.receiver import Receiver
from tests.support.running import Relay, free_port


class World:
    """`world.mx(...)` adds a mail server, `world.relay(...)` starts the relay, `world.send(...)` hands mail in."""

    def __init__(self, folder: Path, dns: MiniDns, stack: contextlib.AsyncExitStack) -> None:
        self.folder = folder
        self.dns = dns
        self.port = free_port()
        self.relay: Relay
        self._stack = stack
        self._next = 10

    async def mx(self, *domains: str, preference: int = 10, **script: Any) -> Receiver:
        """A mail server of its own address that is an MX of the domains."""
        host, address = self.address(*domains, preference=preference)
        return await self._stack.enter_async_context(
            Receiver(address=address, port=self.port, hostname=host, **script),
        )

    def address(self, *domains: str, preference: int = 10) -> tuple[str, str]:
        """A host name and address with nobody behind it, an MX of the domains."""
        self._next += 1
        host, address = f"mx{self._next}.hosts.test", f"127.0.0.{self._next}"
        self.dns.zones[host] = {"A": [address]}
        for domain in domains:
            self.dns.zones.setdefault(domain, {}).setdefault("MX", []).append((preference, host))
        return host, address

    async def start(self, *, environment: Mapping[str, str] | None = None, plain: int = 0, **settings: Any) -> Relay:
        """Start the relay with quick retries, unless `settings` say otherwise."""
        defaults: dict[str, Any] = {
            "dns": {"nameservers": [self.dns.address], "timeout": "3s"},
            "delivery": {"port": self.port, "prohibited_networks": [], "ipv6": False, "connect_timeout": "2s"},
            "retry": {"schedule": ["1s"], "expire_after": "1h", "jitter": 0},
            "throttle": {"backoff": "300ms", "backoff_max": "1s"},
        }
        for name, value in settings.items():
            if isinstance(value, dict) and name in defaults:
                defaults[name] = defaults[name] | value
            else:
                defaults[name] = value
        self.relay = Relay(self.folder, defaults, plain)
        self.relay.environment.update(environment or {})
        self._stack.callback(self.relay.kill)
        await self.relay.start()
        return self.relay

    async def send(
        self,
        recipients: str | Sequence[str],
        *,
        sender: str = "app@sender.test",
        content: bytes | None = None,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
        subject: str = "hello",
    ) -> str:
        """Hand a message in with smtplib; returns the queue id from the 250."""
        to = [recipients] if isinstance(recipients, str) else list(recipients)
        return await asyncio.to_thread(
            submit, self.relay.plain, sender, to, content or message(subject), mail_options, rcpt_options
        )

    async def drained(self, seconds: float = 30) -> None:
        """Wait until the queue has nothing live."""
        async with asyncio.timeout(seconds):
            while await self.relay.command("queue", "list", "--json"):
                await asyncio.sleep(0.1)


def submit(
    port: int,
    sender: str,
    recipients: Sequence[str],
    content: bytes,
    mail_options: Sequence[str] = (),
    rcpt_options: Sequence[str] = (),
) -> str:
    """One transaction with smtplib; the queue id."""
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.ehlo("client.test")
        code, text = client.mail(sender, mail_options)
        assert code == 250, text
        for recipient in recipients:
            code, text = client.rcpt(recipient, rcpt_options)
            assert code == 250, text
        code, text = client.data(content)
        assert code == 250, text
        return text.decode().split()[-1]


def message(subject: str = "hello", body: str = "Good morning.\n") -> bytes:
    """A plain message."""
    mail = EmailMessage()
    mail["From"] = "App <app@sender.test>"
    mail["To"] = "someone@example.test"
    mail["Subject"] = subject
    mail.set_content(body)
    return mail.as_bytes(policy=mail.policy.clone(linesep="\r\n"))


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """A world that ends with the test."""
    async with contextlib.AsyncExitStack() as stack:
        dns = await stack.enter_async_context(MiniDns({}))
        yield World(folder, dns, stack)
