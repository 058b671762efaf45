"""`relay send`: submit one message, into the queue of this machine or to a server by SMTP.

A message for the queue is processed like a submission over SMTP: header fixes, Received, DKIM, one durable put. The
owner of the data folder may send from any address.
"""

import asyncio
import ssl
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import click

from relay.cli.context import Shell, pass_shell
from relay.cli.exits import FailureError
from relay.cli.letter import Letter, composed, received
from relay.cli.output import emit_json, json_option, printable, remark
from relay.model.peer import Peer
from relay.model.transaction import RecipientPath, Transaction
from relay_config.schema import Submission

_SUBMISSION = 587
_SUBMISSIONS = 465
_TIMEOUT = 60.0
"""Seconds for each step of a dialog with a server."""


@click.command()
@click.option("--from", "sender", metavar="ADDRESS", help="Default: the message's From.")
@click.option("--to", "recipients", multiple=True, metavar="ADDRESS", help="Default: the message's To, Cc and Bcc.")
@click.option("--subject", help="Compose a message with this subject.")
@click.option("--body", help="Compose a message with this text.")
@click.option("--stream", metavar="NAME", help="The stream of the message. Default: that of its X-Relay-Stream.")
@click.option("--server", metavar="HOST:PORT", help="Send to this server by SMTP instead of into the queue here.")
@click.option("--user", help="Log in at the server as this user.")
@click.option(
    "--password-file", type=click.Path(dir_okay=False, path_type=Path), help="Its first line is the password."
)
@click.option(
    "--cacert", type=click.Path(dir_okay=False, exists=True), help="Trust the server's certificate by this file."
)
@json_option
@pass_shell
def send(
    shell: Shell,
    *,
    sender: str | None,
    recipients: tuple[str, ...],
    subject: str | None,
    body: str | None,
    stream: str | None,
    server: str | None,
    user: str | None,
    password_file: Path | None,
    cacert: str | None,
    as_json: bool,
) -> None:
    """Submit one message: from standard input, or composed of --from, --to, --subject and --body."""
    if subject is None and body is None:
        # Another server completes addresses according to its own settings.
        default_domain = shell.settings.submission.default_domain if server is None else None
        letter = received(sys.stdin.buffer.read(), sender, recipients, default_domain)
    elif sender is None or not recipients:
        raise click.UsageError("A composed message needs --from and --to.")
    else:
        letter = composed(sender, recipients, subject or "", body or "")
    if stream is not None:
        letter = replace(letter, octets=_with_stream(letter.octets, stream))
    if server is None:
        if user is not None or password_file is not None or cacert is not None:
            raise click.UsageError("--user, --password-file and --cacert go with --server.")
        queue_id = _enqueue(shell, letter)
        shell.wake()
        shell.remark_if_stopped()
        answer = queue_id
    else:
        password = None if user is None else _password(password_file)
        queue_id, answer = None, asyncio.run(_submit(letter, server, user, password, cacert))
    if as_json:
        emit_json({"id": queue_id, "answer": None if server is None else answer})
    else:
        click.echo(printable(answer))


def _with_stream(octets: bytes, name: str) -> bytes:
    """The message with a header field that names the stream, for the relay here or for another one."""
    if not (name.isascii() and name.isprintable()) or " " in name:
        raise click.BadParameter(f"{name!r} cannot be the name of a stream.", param_hint="--stream")
    # At the end of the header: the first line may be the separator line of an mbox file, which is removed later.
    head, blank, body = octets.partition(b"\r\n\r\n")
    return b"".join([head, b"\r\nX-Relay-Stream: ", name.encode(), blank, body])


def _enqueue(shell: Shell, letter: Letter) -> str:
    """Store the message as submission would; returns its queue id."""
    from relay.cli.signing import key_ring
    from relay.message.incoming import Incoming
    from relay.smtp.reply import Reply
    from relay.submission.prepare import prepare
    from relay.submission.rules import Rules

    settings = shell.settings
    if len(letter.octets) > settings.submission.max_message_size:
        raise FailureError("The message is larger than submission.max_message_size allows.")
    data_dir = shell.data_dir
    del data_dir  # from here on, the process runs as its owner
    transaction = _transaction(letter, settings.submission)
    # Quoted-printable makes at most three bytes and a few line ends of one, so nothing spills into a file.
    content = Incoming(_no_file, spill_at=4 * len(letter.octets), header_limit=settings.limits.header_size)
    content.write(letter.octets)
    content.close()
    content.long_lines = letter.long_lines
    if content.long_lines and settings.submission.long_lines == "refuse":
        raise FailureError("The message has a line of more than 998 bytes.", "Encode it, or fold it.")
    rules = Rules.of(settings, key_ring(settings), time.time)
    here = Peer(address="127.0.0.1", port=0, listener="", helo=settings.hostname, extended=False)
    drafted = prepare(rules, here, transaction, content, time.time())
    if isinstance(drafted, Reply):
        raise FailureError(f"{drafted.text}.", "Nothing was sent.")
    drafted.sign()
    put = drafted.put()
    put.entry.message.origin = "cli"
    with shell.admin() as admin:
        admin.put(put)
    with shell.recorder() as recorder:
        recorder.accepted(put.entry, None)
    return put.entry.message.id


def _transaction(letter: Letter, rules: Submission) -> Transaction:
    """The envelope, its addresses checked by the grammar of MAIL and RCPT."""
    from relay.smtp.address import parse_address

    def completed(address: str) -> str:
        return address if "@" in address or rules.default_domain is None else f"{address}@{rules.default_domain}"

    if len(letter.recipients) > rules.max_recipients:
        raise FailureError(f"{len(letter.recipients)} recipients are more than submission.max_recipients allows.")
    sender, sender_domain = "", ""
    if letter.sender:
        found = parse_address(completed(letter.sender))
        if isinstance(found, str):
            raise FailureError(f"{printable(letter.sender)}: {found}.")
        sender, sender_domain = found.address, found.domain
    header = letter.octets[: letter.octets.index(b"\r\n\r\n")]
    international = not (header.isascii() and all(map(str.isascii, (letter.sender, *letter.recipients))))
    transaction = Transaction(sender=sender, sender_domain=sender_domain, smtputf8=international)
    for address in letter.recipients:
        path = parse_address(completed(address))
        if isinstance(path, str):
            raise FailureError(f"{printable(address)}: {path}.")
        transaction.recipients.append(RecipientPath(address=path.address, domain=path.domain))
    return transaction


def _no_file() -> BinaryIO:
    raise AssertionError("the whole message is in memory")


async def _submit(letter: Letter, server: str, user: str | None, password: str | None, cacert: str | None) -> str:
    """Hand the message to a server; returns its answer."""
    import aiosmtplib

    host, port = _host_port(server)
    try:
        refused, answer = await aiosmtplib.send(
            letter.octets,
            sender=letter.sender,
            recipients=list(letter.recipients),
            hostname=host,
            port=port,
            username=user,
            password=password,
            use_tls=port == _SUBMISSIONS,
            # Without a login there is no secret to protect, and servers for local applications have no TLS.
            start_tls=True if user is not None and port != _SUBMISSIONS else None,
            tls_context=_tls(cacert),
            timeout=_TIMEOUT,
        )
    except aiosmtplib.SMTPRecipientsRefused as error:
        first = error.recipients[0]
        raise FailureError(f"{host} refused <{first.recipient}>: {first.code} {printable(first.message)}.") from error
    except aiosmtplib.SMTPResponseException as error:
        raise FailureError(f"{host} answered {error.code} {printable(error.message)}.") from error
    except (aiosmtplib.SMTPException, OSError) as error:
        raise FailureError(f"{host}:{port}: {printable(str(error))}.") from error
    finally:
        # The library has closed its connection; the transport lets go of the socket in the loop's next iterations, and
        # would otherwise be reported as left open when the loop ends.
        for _ in range(3):
            await asyncio.sleep(0)
    for address, reply in refused.items():
        remark(printable(f"refused <{address}>: {reply.code} {reply.message}"))
    return answer


def _host_port(server: str) -> tuple[str, int]:
    from relay_config.endpoints import parse_host_port
    from relay_config.names import BadNameError

    try:
        host, port = parse_host_port(server, _SUBMISSION)
    except BadNameError as error:
        raise click.BadParameter(f"{server!r}: {error}", param_hint="--server") from error
    return host, port


def _tls(cacert: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=cacert)
    except ssl.SSLError as error:
        raise FailureError(f"{cacert}: no certificate in PEM form.") from error


def _password(path: Path | None) -> str:
    if path is not None:
        return path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    if not sys.stdin.isatty():
        raise click.UsageError("Name a --password-file: standard input is taken by the message, or nobody is there.")
    answer: str = click.prompt("Password", hide_input=True, err=True)
    return answer
