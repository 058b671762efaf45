"""What to do next, in words: after `relay init`, and at every start of a sandbox.

Pure: facts in, text out. A test runs the commands that the text shows.
"""

import shlex
import textwrap
from dataclasses import dataclass

from relay.cli import dns_records
from relay.sandbox.magic import MEANINGS

FIRST_USER = "app"
"""The user that `relay init` makes."""
_UNKNOWN = "PASSWORD"
"""Placeholder in the commands for an unknown password."""


@dataclass(slots=True, frozen=True)
class Door:
    """A port that accepts mail."""

    host: str
    """As a client on this machine writes it."""
    port: int
    tls: str
    """`none`, `starttls` or `implicit`."""
    login: bool
    """Whether a user and password are needed."""

    @property
    def meaning(self) -> str:
        """What a client must do here, in a few words."""
        tls = {"none": "no TLS", "starttls": "STARTTLS", "implicit": "TLS"}[self.tls]
        return f"{tls} and password" if self.login else f"{tls}, no password"


@dataclass(slots=True, frozen=True)
class Facts:
    """The facts that the texts contain."""

    relay: str
    """How the command is called here: `relay`, `.venv/bin/relay`."""
    settings: str | None
    """The settings file's path; None if all settings are in the environment."""
    certificate: str
    """The certificate's path."""
    hostname: str
    domain: str
    user: str | None
    """The first user; None if it does not exist any more."""
    password: str | None
    """The user's password; None if unknown."""
    sender: str | None = None
    """An address that the user may send from. Default: the user at the domain."""
    records: tuple[str, ...] = ()
    """DKIM records, as lines of a zone file."""
    addresses: tuple[str, ...] = ()
    """Public addresses of this machine; none where it has none of its own or is not connected."""
    doors: tuple[Door, ...] = ()
    """The ports on which a sandbox accepts mail, in the order of its settings."""


def for_sandbox(facts: Facts) -> str:
    """How to send a first message, see it, and simulate failures."""
    width = max(map(len, MEANINGS)) + 1
    magic = "\n".join(f"  {name + '@':{width}} {meaning}" for name, meaning in MEANINGS.items())
    return f"""\
This is a sandbox: mail takes the whole real path and ends in a receiver built into the relay.

{_doors(facts)}{_user(facts)}
{_first_message(facts)}See what arrived, and what waits:

  {_relay(facts)} sandbox list
  {_relay(facts)} queue list

Recipients that simulate outcomes, in any domain:

{magic}
"""


def _doors(facts: Facts) -> str:
    if not facts.doors:
        return "The settings have no [[listener]]: it takes no mail.\n"
    width = max(len(f"{door.host}:{door.port}") for door in facts.doors)
    return "".join(f"  {f'{door.host}:{door.port}':{width}}  {door.meaning}\n" for door in facts.doors)


def _user(facts: Facts) -> str:
    if not any(door.login for door in facts.doors):
        return ""
    if facts.user is None:
        return f"\nThere is no user {FIRST_USER} any more; `{_relay(facts)} user add NAME` makes one.\n"
    if facts.password is None:
        again = f"`{_relay(facts)} user passwd {facts.user}` sets another"
        return f"\nUser {facts.user}; the password was changed since the sandbox was made ({again}).\n"
    return f"\nUser {facts.user}, password {facts.password}\n"


def _first_message(facts: Facts) -> str:
    """Commands for the door that is most like a mail client's: a password and TLS, if there is one that can be used."""
    usable = [door for door in facts.doors if not door.login or facts.user is not None]
    if not usable:
        return ""
    door = max(usable, key=lambda one: (one.login, one.tls == "starttls"))
    return f"""\
Send a first message with curl:

{_curl(facts, door)}

or with swaks:

{_swaks(facts, door)}

"""


def for_production(facts: Facts) -> str:
    """What is left to do before the relay can serve."""
    lines = [*dns_records.address_and_policies(facts.hostname, facts.domain, facts.addresses), *facts.records]
    records = "\n".join(lines)
    notes = "\n".join(dns_records.filled(note, "  - ") for note in dns_records.notes(facts.hostname, facts.domain))
    return f"""\
User {facts.user}, password {facts.password}
(shown this once; `{_relay(facts)} user passwd {facts.user}` sets another)

{dns_records.filled(dns_records.introduction(facts.hostname, facts.addresses), "1. ")}

{textwrap.indent(records, "  ")}

{notes}

2. Put a certificate that clients trust in the place of {facts.certificate}.

3. Check, then start:

  {_relay(facts)} check
  {_relay(facts)} serve

4. Send a first message with swaks:

{_swaks(facts, Door(facts.hostname, 587, "starttls", login=True))}

or with curl:

{_curl(facts, Door("localhost", 587, "starttls", login=True))}
"""


def _curl(facts: Facts, door: Door) -> str:
    sender, recipient = _sender(facts), f"you@{facts.domain}"
    message = f"From: {sender}\\r\\nTo: {recipient}\\r\\nSubject: Hello\\r\\n\\r\\nIt works.\\r\\n"
    scheme = "smtps" if door.tls == "implicit" else "smtp"
    options = f"--url {scheme}://{door.host}:{door.port}"
    if door.tls != "none":
        options += f" --ssl-reqd --cacert {shlex.quote(facts.certificate)}"
    login = f"--user {shlex.quote(f'{facts.user}:{facts.password or _UNKNOWN}')} " if door.login else ""
    return f"""\
  printf {shlex.quote(message)} |
    curl -sS {options} \\
      {login}--mail-from {sender} --mail-rcpt {recipient} --upload-file -"""


def _swaks(facts: Facts, door: Door) -> str:
    tls = {"none": "", "starttls": " --tls", "implicit": " --tls-on-connect"}[door.tls]
    login = ""
    if door.login:
        login = f" --auth PLAIN --auth-user {shlex.quote(str(facts.user))} \\\n   "
        login += f" --auth-password {shlex.quote(facts.password or _UNKNOWN)}"
    addresses = f"--from {_sender(facts)} --to you@{facts.domain}"
    return f"  swaks --server {door.host} --port {door.port}{tls}{login} {addresses}"


def _sender(facts: Facts) -> str:
    return facts.sender or f"{facts.user or FIRST_USER}@{facts.domain}"


def _relay(facts: Facts) -> str:
    relay = shlex.quote(facts.relay)
    return relay if facts.settings is None else f"{relay} -c {shlex.quote(facts.settings)}"
