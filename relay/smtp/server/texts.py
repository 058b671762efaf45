"""All fixed replies of the server, with codes and text in one place, encoded once.

Each refusal tells the client what to do. Codes follow RFC 5321 §4.2.2 and §4.3.2, enhanced codes RFC 3463; the
greeting, the replies to EHLO and HELO, and 3xx replies have no enhanced code (RFC 2034 §4).
"""

from typing import Final

from relay.smtp.reply import Reply


class Canned:
    """A reply together with its encoded bytes."""

    __slots__ = ("reply", "wire")

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        self.reply = Reply(code, enhanced, text)
        self.wire = self.reply.encode()


OK: Final = Canned(250, "2.0.0", "OK")
SENDER_OK: Final = Canned(250, "2.1.0", "Sender OK")
RECIPIENT_OK: Final = Canned(250, "2.1.5", "Recipient OK")
RESET: Final = Canned(250, "2.0.0", "Transaction reset")
CHUNK_OK: Final = Canned(250, "2.0.0", "Chunk received")
START_DATA: Final = Canned(354, "", "End the message with <CRLF>.<CRLF>")
READY_TLS: Final = Canned(220, "2.0.0", "Ready to start TLS")
AUTHENTICATED: Final = Canned(235, "2.7.0", "Authenticated")
AUTH_PLAIN: Final = Canned(334, "", "")
AUTH_USER: Final = Canned(334, "", "VXNlcm5hbWU6")
AUTH_PASSWORD: Final = Canned(334, "", "UGFzc3dvcmQ6")
VRFY: Final = Canned(252, "2.1.5", "Addresses are not verified here; send the message and see")
EXPN: Final = Canned(502, "5.5.1", "Lists are not expanded here")
HELP: Final = Canned(
    214,
    "2.0.0",
    "Commands: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT STARTTLS AUTH\nRFC 5321 describes them",
)

BARE_LINE_END: Final = Canned(500, "5.5.2", "Lines must end with CRLF and hold no other control characters")
LINE_TOO_LONG: Final = Canned(500, "5.5.2", "The command line is too long")
NOT_UTF8: Final = Canned(501, "5.5.2", "The command is not valid UTF-8")
UNKNOWN: Final = Canned(500, "5.5.1", "Unknown command; HELP lists those that are understood")
NO_ARGUMENT: Final = Canned(501, "5.5.4", "This command takes no argument")

EHLO_SYNTAX: Final = Canned(501, "5.5.4", "Give the client's host name: EHLO client.example.org")
NEED_HELLO: Final = Canned(503, "5.5.1", "Say EHLO first")
NEED_EHLO: Final = Canned(503, "5.5.1", "Say EHLO first; this extension needs it")
MAIL_SYNTAX: Final = Canned(501, "5.5.4", "Write MAIL FROM:<sender@example.org>")
RCPT_SYNTAX: Final = Canned(501, "5.5.4", "Write RCPT TO:<recipient@example.org>")
NEED_EXTENDED: Final = Canned(555, "5.5.4", "Parameters need EHLO in place of HELO")
NO_DEFAULT_DOMAIN: Final = (
    "The address needs a domain: user@example.org; or set submission.default_domain in the relay's settings"
)
NESTED_MAIL: Final = Canned(503, "5.5.1", "A transaction is open already; end it or send RSET")
NEED_MAIL: Final = Canned(503, "5.5.1", "Send MAIL first")
NEED_RCPT: Final = Canned(503, "5.5.1", "No valid recipients; send RCPT first")
IN_CHUNKS: Final = Canned(503, "5.5.1", "A message is being sent with BDAT; end it with BDAT LAST or send RSET")
NEED_SMTPUTF8: Final = Canned(553, "5.6.7", "An address with non-ASCII characters needs SMTPUTF8 with MAIL")
TOO_BIG: Final = Canned(552, "5.3.4", "The message is larger than SIZE of the EHLO reply allows")
TOO_MANY_RECIPIENTS: Final = Canned(452, "4.5.3", "Too many recipients; send the others in another transaction")

BAD_LINE_ENDS: Final = Canned(554, "5.6.11", "The message has bare CR, bare LF or NUL; lines must end with CRLF")
HAS_NUL: Final = Canned(554, "5.6.11", "The message has NUL octets; encode it in base64")
BODY_LINE_TOO_LONG: Final = Canned(500, "5.5.2", "The message has a line of more than 998 octets; encode or wrap it")
HEADER_TOO_BIG: Final = Canned(552, "5.3.4", "The message's header is too large")
DISK_REFUSES: Final = Canned(452, "4.3.1", "No room to store the message now; try again later")
INTERNAL: Final = Canned(451, "4.3.0", "Internal error; try again later")
INTERNAL_CLOSE: Final = Canned(421, "4.3.0", "Internal error; closing, try again later")
UNSYNCHRONISED: Final = Canned(554, "5.5.0", "Wait for the reply to DATA before sending the message; closing")

BDAT_SYNTAX: Final = Canned(501, "5.5.4", "Write BDAT octets, or BDAT octets LAST; closing")
BDAT_FAILED: Final = Canned(503, "5.5.1", "The message was refused already; send RSET")

NO_TLS: Final = Canned(502, "5.5.1", "TLS is not offered here")
TLS_ALREADY: Final = Canned(503, "5.5.1", "TLS is active already")
TLS_INJECTION: Final = Canned(554, "5.5.0", "Nothing may follow STARTTLS before the handshake; closing")
NEED_TLS: Final = Canned(530, "5.7.0", "Must issue a STARTTLS command first")

AUTH_OFF: Final = Canned(503, "5.5.1", "AUTH is not offered here")
AUTH_NEEDS_TLS: Final = Canned(538, "5.7.11", "AUTH needs encryption; send STARTTLS first")
AUTH_ALREADY: Final = Canned(503, "5.5.1", "The session is authenticated already")
AUTH_IN_MAIL: Final = Canned(503, "5.5.1", "AUTH is not allowed within a transaction")
AUTH_SYNTAX: Final = Canned(501, "5.5.4", "Write AUTH PLAIN or AUTH LOGIN")
AUTH_UNKNOWN: Final = Canned(504, "5.5.4", "Only AUTH PLAIN and AUTH LOGIN are understood")
AUTH_CANCELLED: Final = Canned(501, "5.7.0", "Authentication cancelled")
AUTH_MALFORMED: Final = Canned(501, "5.5.2", "That is not what the mechanism sends, in base64")
AUTH_TOO_LONG: Final = Canned(500, "5.5.6", "The authentication line is too long")
AUTH_WRONG: Final = Canned(535, "5.7.8", "User name or password is wrong")
AUTH_TOO_MANY: Final = Canned(421, "4.7.0", "Too many failed AUTH attempts; closing")

TOO_MANY_ERRORS: Final = Canned(421, "4.7.0", "Too many refused commands; closing")
TOO_MANY_IDLE_COMMANDS: Final = Canned(421, "4.7.0", "Too many commands without a message; closing")
NOT_SMTP: Final = Canned(421, "4.7.0", "This is an SMTP server; closing")
TOO_MUCH: Final = Canned(421, "4.7.0", "Far more than SIZE of the EHLO reply allows; closing")
TOO_MANY_CONNECTIONS: Final = Canned(421, "4.3.2", "Too many connections; try again later")
TOO_OFTEN: Final = Canned(
    421, "4.7.0", "Too many connections in a minute; send several messages in each, and try later"
)
SHUTTING_DOWN: Final = Canned(421, "4.3.2", "The server is shutting down; try again in a moment")
IDLE: Final = Canned(421, "4.4.2", "No command for too long; closing")
SESSION_OVER: Final = Canned(421, "4.4.2", "The session lasted too long; connect again")
TOO_SLOW: Final = Canned(421, "4.4.2", "The message is coming in too slowly; closing")


def encode(reply: Reply) -> bytes:
    """Encode a reply made elsewhere, whose text may quote foreign input: CR, controls and non-ASCII become `?`."""
    wire = reply.encode()
    text = reply.text
    if text.isascii() and text.isprintable():
        return wire
    lines = ["".join(c if " " <= c <= "~" else "?" for c in line) for line in text.split("\n")]
    return Reply(reply.code, reply.enhanced, "\n".join(lines)).encode()
