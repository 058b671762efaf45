"""Commands that move no mail: EHLO, HELO, RSET, NOOP, VRFY, EXPN, HELP, QUIT and STARTTLS.

Each is a function of the session and the command's argument, named like the command.
"""

from relay.smtp.server import texts
from relay.smtp.server.session import Phase, Session

_MAX_NAME = 255


def ehlo(session: Session, argument: str) -> None:
    """EHLO (RFC 5321 §4.1.1.1). Resets the transaction."""
    if _hello(session, argument, extended=True):
        session.out.append(session.context.ehlo(starttls=session.tls_offered, auth=session.auth_offered))


def helo(session: Session, argument: str) -> None:
    """HELO: like EHLO, without extensions."""
    if _hello(session, argument, extended=False):
        session.out.append(f"250 {session.context.hostname}\r\n".encode())


def rset(session: Session, argument: str) -> None:
    """RSET (RFC 5321 §4.1.1.5)."""
    if argument:
        session.refuse(texts.NO_ARGUMENT)
    elif not session.idle_command():
        session.reset()
        session.say(texts.RESET)


def noop(session: Session, _argument: str) -> None:
    """NOOP; its argument is ignored (RFC 5321 §4.1.1.9)."""
    if not session.idle_command():
        session.say(texts.OK)


def vrfy(session: Session, _argument: str) -> None:
    """VRFY does not disclose anything about users (RFC 5321 §3.5.3, §7.3)."""
    if not session.idle_command():
        session.say(texts.VRFY)


def expn(session: Session, _argument: str) -> None:
    """EXPN is not offered."""
    session.refuse(texts.EXPN)


def help_(session: Session, _argument: str) -> None:
    """HELP lists the commands."""
    if not session.idle_command():
        session.say(texts.HELP)


def quit_(session: Session, argument: str) -> None:
    """QUIT (RFC 5321 §4.1.1.10)."""
    if argument:
        session.refuse(texts.NO_ARGUMENT)
        return
    session.out.append(f"221 2.0.0 {session.context.hostname} closing\r\n".encode())
    session.quit = True
    session.close()


def starttls(session: Session, argument: str) -> None:
    """STARTTLS (RFC 3207). Sets `Phase.TLS`, in which the shell performs the handshake."""
    if argument:
        session.refuse(texts.NO_ARGUMENT)
    elif session.peer.tls is not None:
        session.refuse(texts.TLS_ALREADY)
    elif not session.tls_offered:
        session.refuse(texts.NO_TLS)
    elif session.more:
        # The plaintext after STARTTLS would be executed as if it had arrived through TLS (CVE-2011-0411).
        session.close(texts.TLS_INJECTION)
    else:
        session.reset()
        session.say(texts.READY_TLS)
        session.phase = Phase.TLS


def _hello(session: Session, name: str, *, extended: bool) -> bool:
    """The common part of EHLO and HELO. Returns False if the command was refused."""
    if not name or len(name) > _MAX_NAME or " " in name or not name.isascii():
        session.refuse(texts.EHLO_SYNTAX)
        return False
    if session.idle_command():
        return False
    session.reset()
    session.peer.helo = name
    session.peer.extended = extended
    return True
