"""What to do next, in words: after `relay init`, and at every start of a sandbox.

Pure: facts in, text out. A test runs the commands that the text shows.
"""

import shlex
import textwrap
from dataclasses import dataclass

from relay.cli import dns_records, starter
from relay.sandbox.magic import MEANINGS

FIRST_MESSAGE = "sandbox/first-message.txt"
"""Where a sandbox keeps its text, below the data folder; it holds the first user's password (0600)."""


@dataclass(slots=True, frozen=True)
class Facts:
    """What the texts name."""

    relay: str
    """How the command is called here: `relay`, `.venv/bin/relay`."""
    settings: str
    """The settings file's path."""
    certificate: str
    """The certificate's path."""
    hostname: str
    domain: str
    user: str
    password: str
    records: tuple[str, ...] = ()
    """DKIM records, as lines of a zone file."""
    addresses: tuple[str, ...] = ()
    """Public addresses of this machine; none where it has none of its own or is not connected."""


def for_sandbox(facts: Facts) -> str:
    """How to send a first message, see it, and simulate failures."""
    width = max(map(len, MEANINGS)) + 1
    magic = "\n".join(f"  {name + '@':{width}} {meaning}" for name, meaning in MEANINGS.items())
    return f"""\
This is a sandbox: mail takes the whole real path and ends in a receiver built into the relay.

Ports on 127.0.0.1: {_port(starter.SANDBOX_TRUSTED)} (local applications, no password), \
{_port(starter.SANDBOX_STARTTLS)} (STARTTLS and password), {_port(starter.SANDBOX_IMPLICIT)} (TLS and password).
User {facts.user}, password {facts.password}

Send a first message with curl:

{_curl(facts, _port(starter.SANDBOX_STARTTLS))}

or with swaks:

{_swaks(facts, "127.0.0.1", _port(starter.SANDBOX_STARTTLS))}

See what arrived, and what waits:

  {_relay(facts)} sandbox list
  {_relay(facts)} queue list

Recipients that simulate outcomes, in any domain:

{magic}
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

{_swaks(facts, facts.hostname, "587")}

or with curl:

{_curl(facts, "587")}
"""


def _curl(facts: Facts, port: str) -> str:
    sender, recipient = f"{facts.user}@{facts.domain}", f"you@{facts.domain}"
    message = f"From: {sender}\\r\\nTo: {recipient}\\r\\nSubject: Hello\\r\\n\\r\\nIt works.\\r\\n"
    credentials = shlex.quote(f"{facts.user}:{facts.password}")
    return f"""\
  printf {shlex.quote(message)} |
    curl -sS --url smtp://localhost:{port} --ssl-reqd --cacert {shlex.quote(facts.certificate)} \\
      --user {credentials} --mail-from {sender} --mail-rcpt {recipient} --upload-file -"""


def _swaks(facts: Facts, host: str, port: str) -> str:
    return f"""\
  swaks --server {host} --port {port} --tls --auth PLAIN --auth-user {shlex.quote(facts.user)} \\
    --auth-password {shlex.quote(facts.password)} --from {facts.user}@{facts.domain} --to you@{facts.domain}"""


def _relay(facts: Facts) -> str:
    return f"{shlex.quote(facts.relay)} -c {shlex.quote(facts.settings)}"


def _port(address: str) -> str:
    return address.rpartition(":")[2]
