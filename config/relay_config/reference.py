"""`docs/reference/settings.md`, generated from the schema; `make example` updates it, and a test compares the two.

Only the text about settings in general is written here; `relay_config.schema` describes each setting.
"""

import sys
from collections.abc import Iterator
from typing import Final

from relay_config.example import header, range_text, shown_value, table_of
from relay_config.schema import Settings
from relay_config.shape import Keyed, Setting, Table
from relay_config.toml import toml_value

_HEAD: Final = """\
# Settings

<!-- Written by `make example` from config/relay_config/schema.py: change the schema, not this page. -->

The relay reads one TOML file: the one named by `-c`, else by `$RELAY_CONFIG`, else `./relay.toml`, else
`/etc/relay/relay.toml`. `relay.toml.example` holds every setting with its default, commented out. Only `hostname` has
to be set. Without any of these files all settings come from the [environment](#environment), if that has any.

`relay check` reads the file as `relay serve` would and reports everything that is wrong at once, one line each: file,
key, what was found, what to do. Unknown keys are errors.

A running relay reads the file again on SIGHUP, or when `relay reload` asks for it, and keeps its settings when the new
ones are bad. Certificates and keys are loaded again as well; only those whose content changed are parsed. These changes
take a restart: `data_dir`, `workers`, `pin_workers`, `user`, `sandbox.receiver`, a listener that is added or removed, a
listener's `tls` from another value to `implicit`, and its `proxy_protocol` from false to true. The log names each of
them (`restart needed`), and until then the relay goes on with the old value.

## Words

| Kind | Written as | Notes |
|---|---|---|
| duration | `"500ms"`, `"10s"`, `"5m"`, `"1h30m"`, `"2d"`, `"1w"` | units from large to small; no fractions |
| size | `"10kB"`, `"50MiB"`, `"1GiB"`, `4096` | kB, MB, GB: powers of 1000; KiB, MiB, GiB: of 1024; alone: octets |
| rate | `"100/s"`, `"1000/h"`, `"5/10s"`, `"0"` | so many per time; `"0"` stands for no limit |

Paths may be relative: they start at the folder of the settings file. Domain names are written in ASCII (A-labels,
`xn--…`) in any case.

## Environment

Every setting can come from the environment, which wins over the file: `RELAY_` and the key in capitals, with two
underscores for each table or array deeper. Where there is no settings file, the server and all commands take everything
from the environment; relative paths then start at the current folder.

    RELAY_HOSTNAME=mail.example.com
    RELAY_SUBMISSION__MAX_MESSAGE_SIZE=10MiB
    RELAY_SUBMISSION__TRUSTED_NETWORKS=10.0.0.0/8,fd00::/8
    RELAY_LISTENER__0__ADDRESS=0.0.0.0:2525
    RELAY_LISTENER__0__AUTH=optional
    RELAY_ROUTE='[{"domains": ["*"], "relay_host": "smtp.example.net:587", "tls": "verify"}]'
    RELAY_DKIM='{"example.com": {"selector": "relay", "key": "/run/secrets/dkim.key"}}'
    RELAY_THROTTLE__SITE='{"*.google.com": {"max_connections": 5}}'

| Setting | Written as |
|---|---|
| text, duration, size, rate, one of some words | as it is, without quotes |
| number, `true`, `false` | as in TOML |
| array of these | with commas between the elements, or as in JSON or TOML |
| table, array of tables | as in JSON or TOML; or each of its settings as a variable of its own |

The number of an array element is one that the file or another variable has, or the next, from 0. Names of domains may
stand in a variable's name (`RELAY_DKIM__EXAMPLE.COM__SELECTOR`) where whoever sets it allows dots; shells do not, so
use JSON there. An empty variable unsets a setting that may be unset, and empties an array or table; `null` in JSON
leaves a setting as it is.

A `RELAY_…` variable that is no setting is an error, except `RELAY_CONFIG` and those that Kubernetes and Docker set for
a service of the name `relay` (`RELAY_SERVICE_HOST`, `RELAY_PORT_25_TCP`, …). Messages about settings name the variable
they came from. A running process never sees changes of its environment: they take a restart.

## Files

Certificates, keys and password files must exist and be readable when the relay starts. One that everybody may
*change* is an error. A key or password that everybody may *read* is a warning, not an error: secrets mounted into
containers often are. Use mode 0600, or 0640 with the relay's group. Keys are stored without a passphrase. The data
folder is a real folder, not a link, which nobody else may write to; the relay makes it with mode 0700.
"""


def render() -> str:
    """The whole page."""
    lines = [_HEAD, "## The file itself", ""]
    lines += _section(Table(Settings), ())
    return "\n".join(lines).rstrip("\n") + "\n"


def _section(table: Table, path: tuple[str, ...]) -> Iterator[str]:
    plain = [setting for setting in table.settings.values() if table_of(setting.shape) is None]
    yield from ("| Setting | Default | Meaning |", "|---|---|---|")
    for setting in plain:
        yield f"| `{setting.name}` | {_default(setting)} | {_cell(setting)} |"
    yield ""
    for setting in table.settings.values():
        nested = table_of(setting.shape)
        if nested is not None:
            yield from _nested(setting, nested, (*path, setting.name))


def _nested(setting: Setting, table: Table, path: tuple[str, ...]) -> Iterator[str]:
    path = (*path, str(setting.example)) if isinstance(setting.shape, Keyed) else path
    yield from (f"## `{header(setting, path)}`", "")
    yield from (setting.help or (table.cls.__doc__ or "").strip(), "")
    yield from _section(table, path)


def _default(setting: Setting) -> str:
    if setting.required:
        return "required"
    if setting.default is None:
        return "not set"
    return f"`{toml_value(setting.default)}`"


def _cell(setting: Setting) -> str:
    parts = [setting.help, range_text(setting)]
    if setting.example is not None:
        parts.append(f"Example: `{shown_value(setting)}`.")
    return " ".join(part for part in parts if part).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(render())
