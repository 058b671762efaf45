"""`relay dkim generate|dns|list`: signing keys and the records that publish them."""

import json
import os
import time
from pathlib import Path
from typing import Any, cast

import click
from cryptography.hazmat.primitives.asymmetric import rsa

from relay.cli.context import Shell, pass_shell
from relay.cli.exits import FailureError, NothingMatchedError
from relay.cli.files import write_new
from relay.cli.output import emit_json, emit_listing, json_option, printable, remark, remark_lines
from relay.cli.selection import domain_name
from relay.cli.signing import as_written, configured, default_selector, key_file, zone_lines
from relay.cli.starter import dkim_table
from relay.message.dkim.keys import (
    Algorithm,
    KeyFormatError,
    SigningKey,
    check_selector,
    generate,
    load,
    record,
    record_name,
    record_strings,
)
from relay_config.schema import DkimKey, Settings
from relay_config.words import format_duration

NO_KEYS = "No signing keys in the settings{}; make one with `relay dkim generate DOMAIN`."


@click.group()
def dkim() -> None:
    """Signing keys and their DNS records."""


@dkim.command("generate")
@click.argument("domain")
@click.option("--selector", help="Default: rsa or ed with the year and month, e.g. rsa202611.")
@click.option(
    "--type",
    "algorithm",
    type=click.Choice(["rsa", "ed25519"]),
    default="rsa",
    show_default=True,
    help="Every receiver knows RSA (2048 bits); Ed25519 is shorter.",
)
@click.option("--no-settings", is_flag=True, help="Do not add the key to the settings file, only show what to add.")
@pass_shell
def generate_(shell: Shell, domain: str, selector: str | None, algorithm: str, *, no_settings: bool) -> None:
    """Make a key, add it to the settings, and show the record to publish."""
    kind = cast("Algorithm", algorithm)
    domain = _checked(domain)
    selector = selector or default_selector(kind, time.time())
    try:
        check_selector(selector)
    except KeyFormatError as error:
        raise click.BadParameter(str(error), param_hint="--selector") from error
    if any(entry.selector == selector for entry in shell.settings.dkim.get(domain, ())):
        raise FailureError(f"{domain} has a key with selector {selector} already.", "Choose another with --selector.")
    file = shell.settings_path
    # The file is opened before root changes to the folder's owner, who may not be allowed to change the settings.
    opened = None
    if file is not None and not no_settings:
        with shell.as_owner(file):
            opened = _for_append(file)
    try:
        path = key_file(shell.data_dir, domain, selector)
        pem = generate(kind)
        write_new(path, pem)
        table = _to_add(shell.settings, file, domain, selector, path)
        added = opened is not None and file is not None and _append(file, opened, table)
    finally:
        if opened is not None:
            os.close(opened)
    remark(f"Key: {path}")
    if added:
        remark_lines(f"Added to {shell.settings_name}:\n\n{table}")
    else:
        remark_lines(f"Add this to {shell.settings_name}:\n\n{table}")
    what = "restart the relay with it" if file is None else "have the relay read its settings again (`relay reload`)"
    remark_lines(f"Publish this record first, then {what}:\n")
    click.echo(zone_lines(load(pem, domain, selector)))


@dkim.command()
@click.argument("domain", required=False)
@json_option
@pass_shell
def dns(shell: Shell, domain: str | None, *, as_json: bool) -> None:
    """Show the records to publish, as lines of a zone file and as the text that web forms want."""
    keys = _keys(shell, domain)
    if as_json:
        for key, _ in keys:
            emit_json({"name": record_name(key), "type": "TXT", "value": record(key), "strings": record_strings(key)})
        return
    for number, (key, _) in enumerate(keys):
        if number:
            click.echo()
        click.echo(f"; zone file\n{zone_lines(key)}")
        click.echo(f"; web form: a TXT record named {record_name(key)} with this text\n{record(key)}")


@dkim.command("list")
@json_option
@pass_shell
def list_(shell: Shell, *, as_json: bool) -> None:
    """List the keys in the settings."""
    emit_listing(
        _keys(shell, None),
        as_json=as_json,
        headers=("DOMAIN", "SELECTOR", "TYPE", "FILE"),
        row=lambda pair: (pair[0].domain, pair[0].selector, _kind(pair[0]), pair[1]),
        record=lambda pair: _record(*pair),
        nothing=NO_KEYS.format(""),
    )


def _keys(shell: Shell, domain: str | None) -> list[tuple[SigningKey, Path]]:
    wanted = None if domain is None else domain_name(domain)
    settings = shell.settings
    if Path(settings.data_dir).is_dir():
        shell.data_dir  # noqa: B018 - read as the user who runs the relay: what it cannot read is worth knowing
    keys = list(configured(settings, wanted))
    if not keys:
        raise NothingMatchedError(NO_KEYS.format("" if wanted is None else f" for {printable(wanted)}"))
    return keys


def _checked(domain: str) -> str:
    from relay_config.names import BadNameError, check_domain

    name = domain_name(domain)
    try:
        check_domain(name)
    except BadNameError as error:
        raise click.BadParameter(str(error), param_hint="DOMAIN") from error
    return name


def _for_append(path: Path) -> int | None:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except PermissionError:
        return None


def _to_add(settings: Settings, file: Path | None, domain: str, selector: str, key: Path) -> str:
    """Return the settings for a new key: a table for the file, or all keys as the value of a variable."""
    if file is not None:
        return dkim_table(domain, selector, as_written(key, file.absolute().parent))
    tables = {name: [_table(entry) for entry in entries] for name, entries in settings.dkim.items()}
    tables.setdefault(domain, []).append({"selector": selector, "key": str(key)})
    return f"RELAY_DKIM={json.dumps(tables)}\n"


def _table(entry: DkimKey) -> dict[str, str]:
    table = {"selector": entry.selector, "key": entry.key}
    if entry.expire_after is not None:
        table["expire_after"] = format_duration(entry.expire_after)
    return table


def _append(path: Path, descriptor: int, table: str) -> bool:
    """Add a table to the settings. Undone if they no longer load (for example, one domain written in two forms)."""
    from relay_config.load import load as load_settings
    from relay_config.problems import SettingsError

    size = os.fstat(descriptor).st_size
    os.write(descriptor, f"\n{table}".encode())
    try:
        load_settings(path, os.environ)
    except SettingsError:
        os.ftruncate(descriptor, size)
        return False
    return True


def _kind(key: SigningKey) -> str:
    return f"RSA {key.private.key_size}" if isinstance(key.private, rsa.RSAPrivateKey) else "Ed25519"


def _record(key: SigningKey, path: Path) -> dict[str, Any]:
    return {
        "domain": key.domain,
        "selector": key.selector,
        "type": key.algorithm,
        "file": str(path),
        "record": record_name(key),
        "expire_after": key.expire_after,
    }
