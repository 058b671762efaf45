"""A session without sockets: octets in by hand, replies as text."""

from typing import Any

from relay.model.peer import Peer
from relay.smtp.server.context import ServerContext
from relay.smtp.server.engine import Engine
from relay.smtp.server.session import Phase, Session
from relay_config.schema import Limits, Listener
from tests.support.remembering_handler import RememberingHandler


class Dialog:
    """One engine and its replies. Needs a running loop only where the handler returns futures."""

    def __init__(self, handler: RememberingHandler | None = None, *, auth: str = "off", **context: Any) -> None:
        self.handler = handler or RememberingHandler()
        listener = Listener(address="127.0.0.1:25", tls="none", auth=auth, plaintext_auth=True)
        context.setdefault("limits", Limits())
        self.peer = Peer("127.0.0.1", 1, listener.address)
        self.handler.connected(self.peer)
        self.session = Session(ServerContext("mx.test", self.handler, listener, **context), self.peer)
        self.engine = Engine(self.session)
        self.replies = b""

    def feed(self, octets: bytes) -> None:
        self.engine.feed(octets)
        while self.engine.pump():
            pass
        self.collect()

    def collect(self) -> None:
        self.replies += b"".join(self.session.out)
        self.session.out.clear()

    def say(self, octets: bytes | str) -> str:
        """Feed, and return what was answered, without the last CRLF; text gets a CRLF."""
        self.replies = b""
        self.feed(octets.encode() + b"\r\n" if isinstance(octets, str) else octets)
        return self.replies.decode().removesuffix("\r\n")

    def code(self, octets: bytes | str) -> int:
        """The code of the only reply; 0 for none."""
        codes = self.codes(octets)
        assert len(codes) <= 1, codes
        return codes[0] if codes else 0

    def codes(self, octets: bytes | str) -> list[int]:
        """The codes of all final reply lines."""
        lines = self.say(octets).split("\r\n")
        return [int(line[:3]) for line in lines if line and line[3:4] == " "]

    @property
    def closed(self) -> bool:
        return self.session.phase is Phase.CLOSED

    def hello(self) -> "Dialog":
        assert self.code("EHLO c.test") == 250
        return self

    def envelope(self) -> "Dialog":
        """Up to the point where DATA or BDAT may come."""
        self.hello()
        assert self.codes("MAIL FROM:<s@ext.test>\r\nRCPT TO:<user@local.test>") == [250, 250]
        return self

    def data(self) -> "Dialog":
        """Up to 354."""
        self.envelope()
        assert self.code("DATA") == 354
        return self
