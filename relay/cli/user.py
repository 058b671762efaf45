"""`relay user add|list|remove|passwd`: who may submit mail.

Passwords come from a prompt or standard input, never from the command line, where everyone on the machine could read
them. A generated one is shown once: only its hash is kept.
"""

import sys
import time
from pathlib import Path
from typing import Any

import click
from msgspec.structs import replace

from relay.cli.context import Shell, pass_shell
from relay.cli.exits import FailureError, NothingMatchedError
from relay.cli.output import clock_time, emit_json, emit_listing, iso_time, json_option, printable, remark
from relay.cli.selection import domain_name
from relay.submission.passwords import Credential, PasswordError, generate_secret, seal_password, seal_secret
from relay.submission.users import FILE, User, check_name, check_sender, editing, read_users


@click.group()
def user() -> None:
    """Who may submit mail."""


def _password_options(command: Any) -> Any:
    generate = click.option("--generate", is_flag=True, help="Make a password and show it (the default).")
    ask = click.option("--password", is_flag=True, help="Ask for a password; read from standard input if it is piped.")
    return generate(ask(command))


@user.command()
@click.argument("name")
@click.option(
    "--sender",
    "senders",
    multiple=True,
    metavar="ADDRESS|DOMAIN",
    help="May send from this address or domain, or '*' for any; may be repeated. Default: NAME if it is an address.",
)
@_password_options
@json_option
@pass_shell
def add(shell: Shell, name: str, senders: tuple[str, ...], *, password: bool, generate: bool, as_json: bool) -> None:
    """Add a user, and show the generated password."""
    name = _name(name)
    if not senders and "@" in name:
        senders = (name,)
    if not senders:
        raise click.UsageError("Say with --sender from which addresses or domains the user may send; '*' for any.")
    allowed = tuple(dict.fromkeys(_sender(sender) for sender in senders))
    path = _file(shell)
    if name in read_users(path):
        raise FailureError(f"There is a user {name} already.", f"`relay user passwd {name}` sets a new password.")
    credential, secret = _credential(ask=password, generate=generate)
    with editing(path) as users:
        if name in users:
            raise FailureError(f"There is a user {name} already.")
        users[name] = User(name=name, credential=credential, senders=allowed, created_at=time.time())
    shell.record_steered(f"user add {name}", 1)
    if as_json:
        emit_json(_record(users[name]) | {"secret": secret})
        return
    remark(f"Added user {name}, who may send from {', '.join(allowed)}.")
    _tell(secret)


@user.command("list")
@json_option
@pass_shell
def list_(shell: Shell, *, as_json: bool) -> None:
    """List the users and from which addresses they may send."""
    emit_listing(
        read_users(_file(shell)).values(),
        as_json=as_json,
        headers=("NAME", "SENDERS", "PASSWORD", "SINCE"),
        row=lambda one: (one.name, ", ".join(one.senders), _kind(one), clock_time(one.created_at)),
        record=_record,
        nothing="No users; add one with `relay user add NAME`.",
    )


@user.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@pass_shell
def remove(shell: Shell, names: tuple[str, ...]) -> None:
    """Remove users. Mail they submitted stays in the queue."""
    wanted = [name.lower() for name in names]
    with editing(_file(shell)) as users:
        missing = [name for name in wanted if name not in users]
        if missing:
            raise NothingMatchedError(f"No user {printable(', '.join(missing))}; nobody was removed.")
        for name in wanted:
            users.pop(name, None)
    shell.record_steered(f"user remove {' '.join(wanted)}", len(wanted))
    click.echo(f"Removed {', '.join(wanted)}.")


@user.command()
@click.argument("name")
@_password_options
@pass_shell
def passwd(shell: Shell, name: str, *, password: bool, generate: bool) -> None:
    """Give a user a new password; the old one is refused from now on."""
    name = name.lower()
    path = _file(shell)
    if name not in read_users(path):
        raise NothingMatchedError(f"No user {printable(name)}.")
    credential, secret = _credential(ask=password, generate=generate)
    with editing(path) as users:
        if name not in users:
            raise NothingMatchedError(f"No user {printable(name)}.")
        users[name] = replace(users[name], credential=credential)
    shell.record_steered(f"user passwd {name}", 1)
    remark(f"Changed the password of {name}.")
    _tell(secret)


def _file(shell: Shell) -> Path:
    return shell.data_dir / FILE


def _name(name: str) -> str:
    try:
        return check_name(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from error


def _sender(sender: str) -> str:
    local, at, domain = sender.rpartition("@")
    try:
        return check_sender(sender if sender == "*" else f"{local}{at}{domain_name(domain)}")
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--sender") from error


def _credential(*, ask: bool, generate: bool) -> tuple[Credential, str | None]:
    """Return the credential to store, and the password to show if it was generated."""
    if ask and generate:
        raise click.UsageError("--password and --generate exclude each other.")
    if not ask:
        secret = generate_secret()
        return seal_secret(secret), secret
    try:
        return seal_password(_asked()), None
    except PasswordError as error:
        raise FailureError(str(error), "Nothing was changed.") from error


def _asked() -> str:
    if sys.stdin.isatty():
        answer: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return answer
    return sys.stdin.readline().rstrip("\r\n")


def _tell(secret: str | None) -> None:
    if secret is not None:
        remark("The password, shown this once:")
        click.echo(secret)


def _kind(one: User) -> str:
    if one.disabled:
        return "disabled"
    return "generated" if one.credential.scheme == "sha256" else "chosen"


def _record(one: User) -> dict[str, Any]:
    return {
        "name": one.name,
        "senders": list(one.senders),
        "password": _kind(one),
        "disabled": one.disabled,
        "created_at": iso_time(one.created_at),
    }
