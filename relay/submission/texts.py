"""All fixed replies of submission. Each refusal tells the client what to do; our own errors are temporary (4xx)."""

from typing import Final

from relay.smtp.reply import Reply

STOPPING: Final = Reply(421, "4.3.2", "The server is shutting down; try again in a minute")
LOGIN_OVER: Final = Reply(421, "4.7.0", "Your account was changed since you logged in; connect and log in again")
QUEUE_FAILED: Final = Reply(421, "4.3.0", "The server cannot store mail at the moment; try again later")
NO_DISK: Final = Reply(452, "4.3.1", "The server is short of disk space; try again later")
INTERNAL: Final = Reply(451, "4.3.0", "An internal error occurred; try again later")
AUTH_REQUIRED: Final = Reply(530, "5.7.0", "Authentication required; log in before sending mail")
NO_RELAY_AUTH: Final = Reply(550, "5.7.1", "Relaying denied; log in before sending mail to others")
NO_RELAY: Final = Reply(550, "5.7.1", "Relaying denied; your address is not in a network that may send through here")
WRONG_PASSWORD: Final = Reply(535, "5.7.8", "User name or password is wrong")
AUTH_BUSY: Final = Reply(454, "4.7.0", "The server cannot check passwords at the moment; try again in a minute")

STREAM_TWICE: Final = Reply(550, "5.6.0", "The message has more than one X-Relay-Stream field; send at most one")

_ADDRESS_SHOWN = 100
"""Maximum characters of an address in a reply; a reply line is limited to 512 bytes (RFC 5321 §4.5.3.1.5)."""
_SENDERS_SHOWN = 3
_SENDER_SHOWN = 64
_STREAM_SHOWN = 40
_STREAMS_SHOWN = 5


def sender_denied(address: str, senders: tuple[str, ...]) -> Reply:
    """The envelope's sender is not one of the user's `senders`."""
    return Reply(553, "5.7.1", f"You may not send from <{_shown(address, _ADDRESS_SHOWN)}>; {_allowed(senders)}")


def author_denied(address: str, senders: tuple[str, ...]) -> Reply:
    """An address of From is not one of the user's `senders`."""
    shown = _shown(address, _ADDRESS_SHOWN)
    return Reply(550, "5.7.1", f"The From field names <{shown}>, which you may not use; {_allowed(senders)}")


def _allowed(senders: tuple[str, ...]) -> str:
    """The senders that the user may use. The user is authenticated, so this list may be disclosed."""
    if not senders:
        return "your account has no sender address; ask the administrator to add one"
    listed = ", ".join(_shown(sender, _SENDER_SHOWN) for sender in senders[:_SENDERS_SHOWN])
    more = len(senders) - _SENDERS_SHOWN
    return f"your account may use {listed}{f' and {more} more' if more > 0 else ''}"


def _shown(text: str, most: int) -> str:
    """Text from a client or an administrator, made safe for replies and logs: printable ASCII, shortened to `most`."""
    safe = "".join(c if " " <= c <= "~" and c not in "<>" else "?" for c in text[: most + 1])
    return safe if len(safe) <= most else f"{safe[: most - 3]}..."


def stream_unknown(name: str, known: tuple[str, ...]) -> Reply:
    """X-Relay-Stream names a stream that the settings do not define."""
    listed = ", ".join(known[:_STREAMS_SHOWN])
    more = f" and {len(known) - _STREAMS_SHOWN} more" if len(known) > _STREAMS_SHOWN else ""
    return Reply(
        550, "5.6.0", f"There is no stream '{_shown(name, _STREAM_SHOWN)}' (X-Relay-Stream); there are {listed}{more}"
    )


def auth_blocked(seconds: float) -> Reply:
    """Refuse a login after too many failures from an address or for a user."""
    return Reply(454, "4.7.0", f"Too many failed logins; try again in {_wait(seconds)}")


def messages_exceeded(limit: int, seconds: float) -> Reply:
    """The user's limit of messages per hour is exceeded."""
    return Reply(451, "4.7.1", f"You may send {limit} messages an hour; try again in {_wait(seconds)}")


def recipients_exceeded(limit: int, seconds: float) -> Reply:
    """The user's limit of recipients per hour is exceeded."""
    return Reply(450, "4.7.1", f"You may send to {limit} recipients an hour; try again in {_wait(seconds)}")


def _wait(seconds: float) -> str:
    """A duration in words, rounded up."""
    if seconds <= 90:
        return f"{max(1, -int(-seconds // 1))} seconds"
    return f"{-int(-seconds // 60)} minutes"
