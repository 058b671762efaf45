"""SMTP replies as values (RFC 5321 §4.2, enhanced codes RFC 2034 and RFC 3463)."""

import msgspec


class Reply(msgspec.Struct, frozen=True):
    """One reply, ours or a peer's."""

    code: int
    """Three digits, 200 to 599."""
    enhanced: str
    """`class.subject.detail`, e.g. `5.7.1`; empty where none is sent (greeting, EHLO, 354, some peers)."""
    text: str
    """What it says, without codes; lines separated by LF."""

    @property
    def positive(self) -> bool:
        """2xx or 3xx."""
        return self.code < 400

    @property
    def temporary(self) -> bool:
        """4xx."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """5xx."""
        return self.code >= 500

    def encode(self) -> bytes:
        """The octets sent: every line with the code, and the enhanced code where there is one."""
        prefix = f"{self.enhanced} " if self.enhanced else ""
        if "\n" not in self.text:
            return f"{self.code} {prefix}{self.text}\r\n".encode()
        lines = self.text.split("\n")
        out = [f"{self.code}-{prefix}{line}\r\n" for line in lines[:-1]]
        out.append(f"{self.code} {prefix}{lines[-1]}\r\n")
        return "".join(out).encode("utf-8")

    def __str__(self) -> str:
        """One line, as logged and shown: codes and text, lines joined by `/`."""
        codes = f"{self.code} {self.enhanced}" if self.enhanced else str(self.code)
        text = self.text.replace("\n", " / ")
        return f"{codes} {text}" if text else codes
