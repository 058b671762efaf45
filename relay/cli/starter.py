"""The settings file that `relay init` writes: short, commented, valid. Everything else keeps its default.

Pure: names in, text out. A test loads what comes out.
"""

import json
from dataclasses import dataclass

from relay.cli.first_steps import Door

SANDBOX_TRUSTED = "127.0.0.1:2525"
SANDBOX_STARTTLS = "127.0.0.1:2587"
SANDBOX_IMPLICIT = "127.0.0.1:2465"
SANDBOX_RECEIVER = "127.0.0.1:2599"
SANDBOX_DOORS = (
    Door("127.0.0.1", 2525, "none", login=False),
    Door("127.0.0.1", 2587, "starttls", login=True),
    Door("127.0.0.1", 2465, "implicit", login=True),
)
"""The values of these settings in a sandbox."""


@dataclass(slots=True, frozen=True)
class Start:
    """What `relay init` was told and made. Paths as the settings file has them: relative to its folder, or absolute."""

    hostname: str
    domain: str
    data_dir: str
    certificate: str
    key: str
    dkim: tuple[tuple[str, str], ...]
    """(selector, key file) pairs."""
    user: str | None = None
    """The system user to become."""


def dkim_table(domain: str, selector: str, key: str) -> str:
    """One `[[dkim."…"]]` table."""
    return f"[[dkim.{_quoted(domain)}]]\nselector = {_quoted(selector)}\nkey = {_quoted(key)}\n"


def production(start: Start) -> str:
    """Return the settings of a relay for production."""
    user = f"user = {_quoted(start.user)}  # becomes this system user once the ports are bound\n" if start.user else ""
    return f"""{_HEAD}
hostname = {_quoted(start.hostname)}  # in greetings and EHLO; its address must point back to it
data_dir = {_quoted(start.data_dir)}  # queue, users, keys, events
{user}
[[listener]]  # applications and mail clients: STARTTLS, then AUTH
address = "0.0.0.0:587"  # for IPv6 as well: another [[listener]] with "[::]:587"
tls = "starttls"
auth = "required"

[[listener]]  # the same with TLS from the first octet
address = "0.0.0.0:465"
tls = "implicit"
auth = "required"

{_tls(start)}
[submission]
trusted_networks = []  # these may relay without AUTH, where a listener's auth is "optional"

{_dkim(start)}"""


def sandbox(start: Start) -> str:
    """Return the settings of a relay that sends no mail to the outside."""
    return f"""{_HEAD}
# A sandbox: mail takes the whole real path, but ends in a receiver built into the relay. `relay sandbox list` shows it.

hostname = {_quoted(start.hostname)}
data_dir = {_quoted(start.data_dir)}
workers = 1

[[listener]]  # local applications
address = "{SANDBOX_TRUSTED}"
tls = "none"
auth = "optional"

[[listener]]  # as mail clients submit: STARTTLS, then AUTH
address = "{SANDBOX_STARTTLS}"
tls = "starttls"
auth = "required"

[[listener]]  # the same with TLS from the first octet
address = "{SANDBOX_IMPLICIT}"
tls = "implicit"
auth = "required"

[sandbox]
receiver = "{SANDBOX_RECEIVER}"  # without this line mail goes to its real recipients

{_tls(start)}
[submission]
trusted_networks = ["127.0.0.0/8", "::1/128"]  # local applications need no AUTH

[retry]
schedule = ["5s", "15s", "1m"]  # quick, to be watched; a real relay keeps the default
expire_after = "10m"
delay_notice_after = "2m"

{_dkim(start)}"""


_HEAD = """\
# Made by `relay init`. docs/reference/settings.md describes every setting, relay.toml.example shows them all;
# `relay check` finds mistakes. `relay reload` has a running relay take changes."""


def _tls(start: Start) -> str:
    return f"""[tls]
certificate = {_quoted(start.certificate)}  # self-signed: clients must be told to trust it
key = {_quoted(start.key)}
"""


def _dkim(start: Start) -> str:
    return "\n".join(dkim_table(start.domain, selector, key) for selector, key in start.dkim)


def _quoted(text: str) -> str:
    """A TOML basic string; JSON's escapes are among TOML's, save DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
