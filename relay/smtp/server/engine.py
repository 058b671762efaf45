"""The engine: bytes in, replies out. Splits the stream into lines, message content and chunks, and runs the commands.

Sans-IO: the shell calls `feed` and `pump`, writes the content of `Session.out`, and acts on `Session.phase`. This
module enforces the rules of the stream itself: only CRLF ends a line (a bare LF or CR causes one refusal and never
separates two commands), the length of lines is limited, and clients of other protocols are disconnected.
"""

from collections.abc import Callable

from relay.smtp.server import auth, bdat, data, envelope, greeting, texts
from relay.smtp.server.session import Phase, Session, log

COMMANDS: dict[str, Callable[[Session, str], None]] = {
    "EHLO": greeting.ehlo,
    "HELO": greeting.helo,
    "MAIL": envelope.mail,
    "RCPT": envelope.rcpt,
    "DATA": data.data,
    "BDAT": bdat.bdat,
    "RSET": greeting.rset,
    "NOOP": greeting.noop,
    "VRFY": greeting.vrfy,
    "EXPN": greeting.expn,
    "HELP": greeting.help_,
    "QUIT": greeting.quit_,
    "STARTTLS": greeting.starttls,
    "AUTH": auth.auth,
}

_OTHER_PROTOCOLS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "PATCH", "TRACE", "PRI"})
_UTF8_COMMANDS = frozenset({"MAIL", "RCPT", "VRFY", "EXPN", "NOOP", "HELP"})

_BATCH = 200
"""Number of steps (commands or lines) after which other sessions run and the replies are written. Without the limit,
one client with a long pipelined list could block all others."""
_MAX_DISCARD = 16 << 20
"""Bytes of a refused line that are skipped before the session ends."""


class Engine:
    """The input stream of one session."""

    __slots__ = ("_buffer", "_discarded", "_position", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self._buffer = b""
        self._position = 0
        self._discarded = 0

    @property
    def waiting(self) -> int:
        """Bytes that were fed but not yet processed."""
        return len(self._buffer) - self._position

    def feed(self, block: bytes) -> None:
        """Add received bytes."""
        if self._position >= len(self._buffer):
            self._buffer = block
        else:
            self._buffer = self._buffer[self._position :] + block
        self._position = 0

    def pump(self) -> bool:
        """Process the bytes that were fed. Returns True if it stopped to let other sessions run: then call again."""
        session = self.session
        for _ in range(_BATCH):
            if session.busy:
                return False
            phase = session.phase
            try:
                if phase is Phase.COMMAND:
                    going = self._command_line()
                elif phase is Phase.DATA:
                    going = self._data()
                elif phase is Phase.CHUNK:
                    going = self._chunk()
                elif phase is Phase.AUTH:
                    going = self._auth_line()
                elif phase is Phase.DISCARD:
                    going = self._discard()
                else:
                    return False
            except Exception:  # noqa: BLE001 - an error in one session must not affect the others
                going = self._fault()
            if not going:
                return False
        return self.waiting > 0

    def drain(self) -> None:
        """End the session as soon as no transaction is open (421 4.3.2, RFC 5321 §3.8)."""
        session = self.session
        session.draining = True
        if not session.busy and session.phase is Phase.COMMAND and session.transaction is None:
            session.close(texts.SHUTTING_DOWN)

    def _command_line(self) -> bool:
        """Run the next command, if its line is complete."""
        session = self.session
        if session.draining and session.transaction is None:
            session.close(texts.SHUTTING_DOWN)
            return False
        buffer, start = self._buffer, self._position
        if start == len(buffer):
            return False
        end = buffer.find(b"\r\n", start)
        if end < 0:
            return self._partial()
        self._position = end + 2
        session.more = end + 2 < len(buffer)
        line = buffer[start:end]
        limit = session.context.limits.command_line
        if end + 2 - start > limit and (line[:5].upper() != b"AUTH " or end + 2 - start > auth.MAX_LINE):
            session.commands += 1
            session.line = ""
            session.refuse(texts.LINE_TOO_LONG)
            return True
        self._command(line)
        return True

    def _command(self, line: bytes) -> None:
        """Run one command."""
        session = self.session
        session.commands += 1
        try:
            text = line.decode()
        except UnicodeDecodeError:
            self._undecodable(line)
            return
        verb, _, argument = text.partition(" ")
        command = COMMANDS.get(verb)
        if command is None and verb.isascii():
            # `upper` maps some non-ASCII characters to ASCII (U+017F to S, U+0131 to I). It would accept words as
            # commands that a filter in front of this server does not recognise as commands.
            command = COMMANDS.get(verb.upper())
        session.line = text
        if command is None:
            self._unknown(verb, text)
        elif text.isprintable():
            command(session, argument.strip(" "))
        elif text.isascii() or _has_controls(text) or verb.upper() not in _UTF8_COMMANDS:
            session.line = verb
            session.refuse(texts.BARE_LINE_END if verb.upper() not in {"EHLO", "HELO"} else texts.EHLO_SYNTAX)
        else:
            command(session, argument.strip(" "))

    def _undecodable(self, line: bytes) -> None:
        """Refuse a line that is not UTF-8; if it is the first line and no command, end the session."""
        session = self.session
        session.line = ""
        if line[:4].upper().decode("ascii", "replace") in COMMANDS or session.commands > 1:
            session.refuse(texts.NOT_UTF8)
        else:
            session.close(texts.NOT_SMTP)

    def _unknown(self, verb: str, text: str) -> None:
        """Refuse an unknown command; if it looks like another protocol, end the session."""
        session = self.session
        # The text itself is not recorded: a client that ignored the refusal of its AUTH sends the password here.
        session.line = "(unknown command)"
        first = session.commands == 1 and not (text.isascii() and text.isprintable())
        if first or verb.upper() in _OTHER_PROTOCOLS or verb.endswith(":"):
            session.close(texts.NOT_SMTP)
            return
        session.unknown += 1
        if session.unknown > session.context.limits.unknown_commands:
            session.close(texts.TOO_MANY_ERRORS)
        else:
            session.refuse(texts.UNKNOWN if text.isprintable() else texts.BARE_LINE_END)

    def _partial(self) -> bool:
        """Check an incomplete command line, and refuse it now if it can no longer become valid."""
        session = self.session
        buffer, start = self._buffer, self._position
        waiting = len(buffer) - start
        if session.commands == 0 and _is_foreign(buffer[start : start + 512]):
            session.line = ""
            session.close(texts.NOT_SMTP)
            return False
        if buffer.find(b"\n", start) >= 0:
            fault = texts.BARE_LINE_END
        elif waiting > session.context.limits.command_line and (
            buffer[start : start + 5].upper() != b"AUTH " or waiting > auth.MAX_LINE
        ):
            fault = texts.LINE_TOO_LONG
        else:
            return False
        session.commands += 1
        session.line = ""
        session.phase = Phase.DISCARD
        self._discarded = 0
        session.refuse(fault)
        return True

    def _auth_line(self) -> bool:
        """Process a line of an AUTH exchange, if it is complete."""
        session = self.session
        buffer, start = self._buffer, self._position
        end = buffer.find(b"\r\n", start)
        if (self.waiting if end < 0 else end + 2 - start) > auth.MAX_LINE or (end < 0 and b"\n" in buffer[start:]):
            session.line = "AUTH"
            session.auth_step = None
            session.phase = Phase.DISCARD
            self._discarded = 0
            session.refuse(texts.AUTH_TOO_LONG if end >= 0 or self.waiting > auth.MAX_LINE else texts.BARE_LINE_END)
            return True
        if end < 0:
            return False
        self._position = end + 2
        session.commands += 1
        auth.line(session, buffer[start:end].decode("ascii", "replace"))
        return True

    def _data(self) -> bool:
        """Process message content after 354."""
        session = self.session
        reader, content = session.reader, session.content
        assert reader is not None, "the phase has its reader"
        assert content is not None, "the phase has its content"
        if not self.waiting:
            return False
        start = self._position
        block = self._buffer[start:] if start else self._buffer
        used = reader.feed(block)
        if used < 0:
            self._position = len(self._buffer)
            if content.dropped > bdat.drop_limit(session):
                session.close(texts.TOO_MUCH)
            return False
        self._position = start + used
        session.commands += 1
        session.line = "DATA"
        data.end(session)
        return True

    def _chunk(self) -> bool:
        """Process bytes of a BDAT chunk."""
        session = self.session
        start = self._position
        piece = self._buffer[start : start + session.chunk_left]
        if not piece:
            return False
        self._position = start + len(piece)
        bdat.take(session, piece)
        return True

    def _discard(self) -> bool:
        """Skip the rest of a refused line."""
        session = self.session
        end = self._buffer.find(b"\r\n", self._position)
        if end >= 0:
            self._position = end + 2
            session.phase = Phase.COMMAND
            return True
        keep = 1 if self._buffer.endswith(b"\r") and self.waiting else 0
        self._discarded += self.waiting - keep
        self._position = len(self._buffer) - keep
        if self._discarded > _MAX_DISCARD:
            session.close(texts.TOO_MANY_ERRORS)
        return False

    def _fault(self) -> bool:
        """Handle an internal error: log it and answer with a temporary refusal; the session continues if it can."""
        session = self.session
        log.exception("internal error in an SMTP session")
        if session.phase is Phase.COMMAND:
            session.refuse(texts.INTERNAL)
            return True
        session.close(texts.INTERNAL_CLOSE)
        return False


def _is_foreign(beginning: bytes) -> bool:
    """Whether the start of a first line has bytes that SMTP never sends, as TLS and other binary protocols have."""
    return beginning.translate(None, b"\r\n").translate(None, _PRINTABLE) != b""


_PRINTABLE = bytes(range(0x20, 0x7F))


def _has_controls(text: str) -> bool:
    """Whether the text has C0 or C1 control characters or Unicode line separators."""
    return any(c < " " or "\x7f" <= c <= "\x9f" or c in "\u2028\u2029" for c in text)
