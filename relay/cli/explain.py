"""`relay explain-reply`: shows how the relay treats a refusal of another server, and which rule applies."""

import re
import sys
from collections.abc import Iterable

import click
import msgspec

from relay.cli.context import Shell, pass_shell
from relay.cli.exits import FAILED, FailureError
from relay.cli.output import emit_json, emit_table, json_option, printable, remark
from relay.delivery.outcome import Disposition, Outcome
from relay.delivery.reply_settings import Origin, ReplyRules
from relay.delivery.smtp_outcome import judge_error, judge_reply
from relay.smtp.client.model import SessionError, Stage
from relay.smtp.client.replies import make_reply
from relay.smtp.reply import Reply
from relay_config.names import BadNameError
from relay_config.problems import SettingsError
from relay_config.schema import Settings

_STAGES = ("greeting", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "end")
_BEFORE_MAIL = {Stage.GREETING, Stage.EHLO, Stage.STARTTLS, Stage.AUTH}
_CODE = re.compile(r"[45][0-9]{2}(?=[ -]|$)")


class Explained(msgspec.Struct, frozen=True):
    """One text and its meaning."""

    text: str
    outcome: Outcome

    @property
    def permanent(self) -> bool:
        """Whether the mail is returned to the sender at once."""
        return self.outcome.disposition is Disposition.PERMANENT


@click.command("explain-reply")
@click.argument("texts", metavar="TEXT...", nargs=-1, required=True)
@click.option("--site", metavar="HOST", help="The server that replied: an MX host, or a smarthost's host:port.")
@click.option("--domain", help="The recipient's domain.")
@click.option(
    "--stage",
    type=click.Choice(_STAGES),
    default="rcpt",
    show_default=True,
    help="The command that was refused; `end` is the end of the message.",
)
@json_option
@pass_shell
@click.pass_context
def explain_reply(
    ctx: click.Context,
    shell: Shell,
    *,
    texts: tuple[str, ...],
    site: str | None,
    domain: str | None,
    stage: str,
    as_json: bool,
) -> None:
    r"""Say what refusals of other servers mean: class, whether the mail is tried again, and the rule that decides.

    Each TEXT is one 4xx or 5xx reply, its lines separated by \n. With - they are read from standard input, one a line.
    The rules of the settings apply where there are settings.
    """
    settings = _settings(shell)
    rules = _rules(settings)
    origin = _origin(settings, site, domain)
    whole = texts == ("-",)
    given = _from_stdin() if whole else _from_arguments(texts)
    explained, bad = [], 0
    for text in given:
        reply = parse(text)
        if reply is not None:
            explained.append(Explained(text, judge(reply, Stage(stage), rules, origin)))
            continue
        wrong = f"{printable(text[:100])!r} is no refusal: write a reply that begins with a code from 400 to 599"
        if not whole:
            raise click.UsageError(wrong + ", in quotes.")
        remark(f"relay: {wrong}.")
        bad += 1
    _show(explained, as_json=as_json)
    if bad or not explained:
        ctx.exit(FAILED)


def parse(text: str) -> Reply | None:
    """Parse a reply; returns None if the text does not begin with the code of a refusal."""
    lines = text.strip().replace("\\r", "").split("\\n")
    code = _CODE.match(lines[0])
    if code is None:
        return None
    bare = [line[4:] if line[:3] == code[0] and line[3:4] in ("", " ", "-") else line for line in lines]
    return make_reply(int(code[0]), "\n".join(bare).encode("utf-8", "replace"))


def judge(reply: Reply, stage: Stage, rules: ReplyRules, origin: Origin) -> Outcome:
    """Return the outcome of a recipient for this reply at this stage."""
    if stage in _BEFORE_MAIL:
        return judge_error(SessionError(stage, "reply", str(reply), reply))
    return judge_reply(reply, rules, origin)


def _settings(shell: Shell) -> Settings | None:
    """Return the settings, or None if no file was named and none is in its usual place."""
    try:
        shell.settings_path  # noqa: B018 - looks for the file
    except SettingsError:
        return None
    return shell.settings


def _rules(settings: Settings | None) -> ReplyRules:
    try:
        return ReplyRules(settings.reply_rule if settings is not None else ())
    except BadNameError as error:
        raise FailureError(
            f"A pattern of [[reply_rule]] cannot be used: {error}.", "`relay check` says which."
        ) from None


def _origin(settings: Settings | None, site: str | None, domain: str | None) -> Origin:
    site = (site or "").lower()
    routes = settings.route if settings is not None else ()
    credentials = any(route.relay_host.lower() == site and route.user is not None for route in routes)
    return Origin(site, (site,) if site else (), (domain or "").lower(), credentials)


def _from_arguments(texts: tuple[str, ...]) -> Iterable[str]:
    """Yield a reply per argument, or join all if the quotes were forgotten: `explain-reply 550 5.1.1 unknown`."""
    if len(texts) > 1 and re.fullmatch(r"[0-9]{3}", texts[0]):
        return (" ".join(texts),)
    return texts


def _from_stdin() -> Iterable[str]:
    for line in sys.stdin.buffer:
        text = line.decode("utf-8", "replace").strip()
        if text:
            yield text


def _show(explained: list[Explained], *, as_json: bool) -> None:
    if as_json:
        for one in explained:
            emit_json(
                {
                    "text": one.text,
                    "class": one.outcome.failure,
                    "disposition": "permanent" if one.permanent else "temporary",
                    "pauses_lane": one.outcome.lane_fault,
                    "rule": one.outcome.rule,
                }
            )
    elif explained:
        rows = [
            (
                one.outcome.failure,
                "permanent" if one.permanent else "temporary",
                "yes" if one.outcome.lane_fault else "no",
                one.outcome.rule,
                one.text,
            )
            for one in explained
        ]
        emit_table(("CLASS", "DISPOSITION", "PAUSES", "RULE", "TEXT"), rows)
