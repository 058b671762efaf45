"""The greeting of a sandbox at its start: how to send a first message with the current settings and users.

The first user's password is only known as long as it is the one that `relay init` made: it lies beside the mail
(`FIRST_LOGIN`, readable by the owner alone) and is shown while the user's stored hash is its own.
"""

import sys
from pathlib import Path

import click

from relay.cli.first_steps import FIRST_USER, Door, Facts, for_sandbox
from relay.submission.networks import Networks
from relay.submission.passwords import is_secret
from relay.submission.users import FILE, User, UserFileError, read_users
from relay_config.endpoints import is_unspecified, parse_endpoint
from relay_config.schema import Listener, Settings

FIRST_LOGIN = "sandbox/first-password"
"""Below the data folder of a sandbox."""
_HERE = "127.0.0.1"


def greet(settings: Settings, settings_path: Path | None) -> None:
    """Show the greeting if the settings are those of a sandbox. An error here never prevents the relay from running."""
    if settings.sandbox.receiver is None:
        return
    try:
        click.echo(for_sandbox(facts(settings, settings_path)))
    except (OSError, UserFileError):
        # Standard output is closed or full, or the users cannot be read, which the first login reports.
        return


def facts(settings: Settings, settings_path: Path | None) -> Facts:
    """Return the facts of the text. Raises OSError and `UserFileError`."""
    data_dir = Path(settings.data_dir)
    user = read_users(data_dir / FILE).get(FIRST_USER)
    domain = next(iter(settings.dkim), settings.hostname.partition(".")[2] or settings.hostname)
    return Facts(
        relay=program(),
        settings=None if settings_path is None else shown(settings_path.absolute()),
        certificate=shown(Path(settings.tls.certificate)) if settings.tls.certificate is not None else "",
        hostname=settings.hostname,
        domain=domain,
        user=None if user is None or user.disabled else user.name,
        password=None if user is None else _password(data_dir / FIRST_LOGIN, user),
        sender=None if user is None else _sender(user, domain),
        doors=doors(settings),
    )


def doors(settings: Settings) -> tuple[Door, ...]:
    """Return the listeners that a client on this machine may use."""
    trusted = Networks(settings.submission.trusted_networks)
    made = (_door(listener, trusted) for listener in settings.listener)
    return tuple(door for door in made if door is not None)


def _door(listener: Listener, trusted: Networks) -> Door | None:
    host, port = parse_endpoint(listener.address)
    if is_unspecified(host):
        host = "::1" if ":" in host else _HERE
    login = listener.auth == "required" or host not in trusted
    if login and listener.auth == "off":
        return None
    return Door(f"[{host}]" if ":" in host else host, port, listener.tls, login)


def _password(path: Path, user: User) -> str | None:
    try:
        password = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):  # not there, or closed to the relay's user, who may have put a link in its place
        return None
    return password if is_secret(user.credential, password) else None


def _sender(user: User, domain: str) -> str:
    """An address that the user may send from."""
    first = user.senders[0] if user.senders else "*"
    if "@" in first:
        return first
    return f"{user.name}@{domain if first == '*' else first}"


def program() -> str:
    """Return the command as it was called, so that the examples can be pasted."""
    called = sys.argv[0]
    return called if Path(called).name == "relay" else "relay"


def shown(path: Path) -> str:
    """Return a path, relative to the current folder if that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, FileNotFoundError):
        return str(path)
