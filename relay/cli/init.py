"""`relay init DIR`: everything a relay needs to start: settings, certificate, DKIM keys, data folder, first user.

Nothing is overwritten: it first checks whether any of the files exists, and each file is created exclusively.
"""

import ipaddress
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import click

from relay.cli import first_steps, starter
from relay.cli.certificate import self_signed
from relay.cli.exits import FailureError
from relay.cli.files import write_new
from relay.cli.first_steps import FIRST_USER as USER
from relay.cli.greeting import FIRST_LOGIN, program, shown
from relay.cli.selection import domain_name
from relay.cli.signing import as_written, default_selector, key_file, zone_lines
from relay.message.dkim.keys import Algorithm, generate, load
from relay.process.privileges import Identity, PrivilegeError, controls, give, lookup, on_behalf_of, unprivileged
from relay.submission.passwords import generate_secret, seal_secret
from relay.submission.users import FILE as USERS_FILE
from relay.submission.users import User, editing

_ALGORITHMS: tuple[Algorithm, ...] = ("rsa", "ed25519")


@dataclass(slots=True, frozen=True)
class Plan:
    """The files to create. Paths are absolute."""

    folder: Path
    data_dir: Path
    hostname: str
    domain: str
    system_user: str | None
    sandbox: bool

    @property
    def settings(self) -> Path:
        """The settings file."""
        return self.folder / "relay.toml"

    @property
    def certificate(self) -> Path:
        """The certificate, which is beside the settings because it is not mail data."""
        return self.folder / "tls" / "certificate.pem"

    @property
    def key(self) -> Path:
        """The certificate's private key."""
        return self.folder / "tls" / "key.pem"


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--sandbox", is_flag=True, help="On loopback, delivering to a receiver of its own: sends nothing out.")
@click.option(
    "--hostname", metavar="NAME", help="The relay's own name. Default: this machine's; in a sandbox relay.example.test."
)
@click.option(
    "--domain", metavar="DOMAIN", help="The domain to send from. Default: the host name without its first part."
)
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Default: DIR/data.")
@click.option("--user", "system_user", metavar="NAME", help="The system user that the relay becomes; owns the data.")
def init(
    folder: Path,
    *,
    sandbox: bool,
    hostname: str | None,
    domain: str | None,
    data_dir: Path | None,
    system_user: str | None,
) -> None:
    """Set up a relay in the folder DIR, and say what to do next."""
    hostname = _checked(hostname or ("relay.example.test" if sandbox else socket.getfqdn()), "--hostname")
    folder = folder.absolute()
    plan = Plan(
        folder=folder,
        data_dir=(data_dir or folder / "data").absolute(),
        hostname=hostname,
        domain=_checked(domain or hostname.partition(".")[2], "--domain"),
        system_user=system_user,
        sandbox=sandbox,
    )
    click.echo(make(plan, time.time()))


def make(plan: Plan, now: float) -> str:
    """Carry out a plan; returns the text about the next steps."""
    keys = [(default_selector(kind, now), kind) for kind in _ALGORITHMS]
    key_files = [(selector, key_file(plan.data_dir, plan.domain, selector)) for selector, _ in keys]
    owner = _owner(plan.system_user)
    _refuse_to_overwrite(
        [plan.settings, plan.certificate, plan.key, plan.data_dir / USERS_FILE, *dict(key_files).values()]
    )
    with on_behalf_of(owner, plan.folder):
        plan.folder.mkdir(parents=True, exist_ok=True)
    certificate, key = self_signed(plan.hostname, now)
    with on_behalf_of(owner, plan.certificate):
        write_new(plan.certificate, certificate, 0o644)
        write_new(plan.key, key)
    pems = [generate(kind) for _, kind in keys]
    records = [zone_lines(load(pem, plan.domain, selector)) for (selector, _), pem in zip(keys, pems, strict=True)]
    with on_behalf_of(owner, plan.data_dir):
        plan.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        for (_, path), pem in zip(key_files, pems, strict=True):
            write_new(path, pem)
        password = _first_user(plan, now)
    facts = first_steps.Facts(
        relay=program(),
        settings=shown(plan.settings),
        certificate=shown(plan.certificate),
        hostname=plan.hostname,
        domain=plan.domain,
        user=USER,
        password=password,
        records=tuple(records),
        addresses=_public_addresses(),
        doors=starter.SANDBOX_DOORS if plan.sandbox else (),
    )
    if plan.sandbox:
        with on_behalf_of(owner, plan.data_dir):
            write_new(plan.data_dir / FIRST_LOGIN, f"{password}\n".encode())
        text = first_steps.for_sandbox(facts)
    else:
        text = first_steps.for_production(facts)
    with on_behalf_of(owner, plan.settings):
        _write_settings(plan, key_files)
    if owner is not None:
        for made in (plan.certificate.parent, plan.data_dir):
            # Files in a folder that the user controls were already created as that user.
            if not controls(owner, made):
                give(made, owner)
    return f"Made {shown(plan.settings)}.\n\n{text}"


def _write_settings(plan: Plan, key_files: list[tuple[str, Path]]) -> None:
    """Write the settings last, so that if they exist, all other files exist too."""

    def written(path: Path) -> str:
        return as_written(path, plan.folder)

    start = starter.Start(
        hostname=plan.hostname,
        domain=plan.domain,
        data_dir=written(plan.data_dir),
        certificate=written(plan.certificate),
        key=written(plan.key),
        dkim=tuple((selector, written(path)) for selector, path in key_files),
        user=plan.system_user,
    )
    text = starter.sandbox(start) if plan.sandbox else starter.production(start)
    write_new(plan.settings, text.encode(), 0o644)


def _public_addresses() -> tuple[str, ...]:
    """The addresses from which this machine would send into the internet, where these are public.

    Connecting a datagram socket has the kernel choose its own address; nothing is sent.
    """
    found = []
    for family, anywhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect((anywhere, 9))
                address = sock.getsockname()[0]
        except OSError:
            continue  # this address family is not available here
        if ipaddress.ip_address(address).is_global:
            found.append(address)
    return tuple(found)


def _first_user(plan: Plan, now: float) -> str:
    """Create the first user, who may send from the domain; returns the generated password."""
    password = generate_secret()
    user = User(name=USER, credential=seal_secret(password), senders=(plan.domain,), created_at=now)
    with editing(plan.data_dir / USERS_FILE) as users:
        users[USER] = user
    return password


def _refuse_to_overwrite(paths: list[Path]) -> None:
    for path in paths:
        if path.exists() or path.is_symlink():
            raise FailureError(
                f"{path} exists already; nothing was changed.", "Choose another folder, or move the old files away."
            )


def _checked(name: str, option: str) -> str:
    from relay_config.names import BadNameError, check_domain

    name = domain_name(name)
    try:
        check_domain(name)
    except BadNameError as error:
        raise click.BadParameter(f"{name!r}: {error}", param_hint=option) from error
    if "." not in name:
        raise click.BadParameter(f"{name!r} is no full name; give one like mail.example.com", param_hint=option)
    return name


def _owner(system_user: str | None) -> Identity | None:
    """Return the user for whom root creates the files, or None if they belong to the caller."""
    if system_user is None:
        return None
    try:
        lookup(system_user)
        return unprivileged(system_user)
    except PrivilegeError as error:
        raise FailureError(f"{error}.") from error
