"""The SMTP transport: opens sessions for a route, and maps replies and broken sessions to reports.

This is the interface between `relay.smtp.client` and the lanes. It has the TLS contexts and reads the credentials of
smarthosts. It does not depend on the queue, retries or limits.
"""

from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from relay.delivery.outcome import Outcome, judge_route
from relay.delivery.reply_settings import ReplyRules, origin_of
from relay.delivery.routing import Route, RouteError, Router
from relay.delivery.smtp_outcome import judge_error, judge_reply, tries_next_host
from relay.delivery.transport import Capacity, Failure, Parcel, Progress, Report
from relay.smtp.client.connect import ClientTls, Timeouts, connect
from relay.smtp.client.connection import Connection
from relay.smtp.client.model import Credentials, Outgoing, OutgoingRecipient, Result, SessionError, Stage
from relay.smtp.reply import Reply
from relay_config.schema import Route as RouteSettings
from relay_config.schema import Settings
from relay_queue.protocol import BodyDamagedError

_PROGRESS = {
    Stage.MAIL: Progress.ENVELOPE,
    Stage.RCPT: Progress.ENVELOPE,
    Stage.DATA: Progress.ENVELOPE,
    Stage.CONTENT: Progress.CONTENT,
    Stage.END: Progress.UNCERTAIN,
}
"""Progress by the stage at which a session broke. Before MAIL nothing of the message was sent."""


_STAGES: dict[Stage | None, str] = {
    Stage.MAIL: "MAIL",
    Stage.RCPT: "RCPT",
    Stage.DATA: "DATA",
    Stage.CONTENT: "message",
    Stage.END: "end",
    None: "",
}


class SmtpTransport:
    """Opens SMTP sessions for all lanes of a worker."""

    def __init__(self, settings: Settings, router: Router) -> None:
        self._router = router
        self._tls = ClientTls()
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """Apply new settings to future sessions."""
        self._settings = settings
        self._rules = ReplyRules(settings.reply_rule)
        self._timeouts = Timeouts.of(settings.delivery)

    async def open(self, route: Route) -> "SmtpSession | Failure":
        """Open a session with the first address of the route that accepts one; on failure, return the last error."""
        targets = await self._router.addresses(route)
        if isinstance(targets, RouteError):
            return Failure(judge_route(targets), str(targets))
        try:
            credentials = _credentials(route.smarthost)
        except OSError as error:
            return _failure(SessionError(Stage.AUTH, "local", f"password file cannot be read: {error.strerror}"))
        delivery = self._settings.delivery
        failure: SessionError | None = None
        for target in targets:
            source = delivery.source_ipv6 if ":" in target.address else delivery.source_ipv4
            try:
                connection = await connect(
                    target,
                    route.tls,
                    hostname=self._settings.hostname,
                    tls=self._tls,
                    credentials=credentials,
                    source=source,
                    timeouts=self._timeouts,
                )
            except SessionError as error:
                failure = error
                if not tries_next_host(error):
                    break
            else:
                return SmtpSession(connection, route, lambda: self._rules)
        assert failure is not None, "a route has at least one address"
        return _failure(failure)


class SmtpSession:
    """One connection after its EHLO; implements `transport.Session`."""

    __slots__ = ("_connection", "_route", "_rules", "capacity")

    def __init__(self, connection: Connection, route: Route, rules: Callable[[], ReplyRules]) -> None:
        self._connection = connection
        self._route = route
        self._rules = rules
        features = connection.features
        self.capacity = Capacity(features.rcpt_max, features.rcpt_domain_max)
        """The peer's LIMITS (RFC 9422)."""

    @property
    def remote(self) -> str:
        """The server, `host[address]:port`."""
        return self._connection.remote

    @property
    def stage(self) -> str:
        """The command whose reply is awaited; `message` while the message is being sent, `end` after it."""
        return _STAGES[self._connection.stage]

    @property
    def usable(self) -> bool:
        """Whether `send` may be called."""
        return self._connection.usable

    @property
    def on_close(self) -> Callable[[], None] | None:
        """Called once when the connection ends."""
        return self._connection.on_close

    @on_close.setter
    def on_close(self, callback: Callable[[], None] | None) -> None:
        self._connection.on_close = callback

    async def send(self, parcel: Parcel) -> Report:
        """See `transport.Session`."""
        try:
            result = await self._connection.send(_outgoing(parcel))
        except SessionError as error:
            if isinstance(error.__cause__, BodyDamagedError):
                # Detected while the file was being sent. The peer never got the end of the message, so it discards it.
                raise error.__cause__ from error
            return self._broken(error, parcel)
        return self._answered(result, parcel)

    def _answered(self, result: Result, parcel: Parcel) -> Report:
        """Return the report of a transaction in which every recipient got a reply."""
        outcomes = [self._judge(reply, parcel, place) for place, reply in enumerate(result.replies)]
        for place in result.unasked:  # generated locally: the peer was not asked about these recipients
            outcomes[place] = replace(outcomes[place], answered=False)
        fault = next((outcome for outcome in outcomes if outcome.lane_fault), None)
        return Report(
            outcomes,
            Progress.ANSWERED,
            result.remote,
            result.reusable,
            result.dsn,
            pause=None if fault is None else fault.text,
            pause_for=0.0 if fault is None else fault.pause,
        )

    def _broken(self, error: SessionError, parcel: Parcel) -> Report:
        """Return the report of a broken session. Recipients with their own refusal keep it; others get the error."""
        whole = judge_error(error)
        outcomes = [
            whole if reply is None or reply.code < 400 else self._judge(reply, parcel, place)
            for place, reply in enumerate(error.partial or [None] * len(parcel.recipients))
        ]
        return Report(
            outcomes,
            _PROGRESS.get(error.stage, Progress.NOTHING),
            error.remote or None,
            stale=error.fresh_connection_helps,
            pause=whole.text if whole.lane_fault else None,
        )

    def _judge(self, reply: Reply, parcel: Parcel, place: int) -> Outcome:
        if reply.code < 300:
            return judge_reply(reply)
        return judge_reply(reply, self._rules(), origin_of(self._route, parcel.recipients[place].domain))

    async def quit(self) -> None:
        """Send QUIT and close."""
        await self._connection.quit()

    def abort(self) -> None:
        """Close at once."""
        self._connection.abort()


def _outgoing(parcel: Parcel) -> Outgoing:
    message = parcel.message
    return Outgoing(
        message.sender,
        [OutgoingRecipient(r.address, r.notify, r.orcpt) for r in parcel.recipients],
        parcel.head,
        message.size,
        message.eightbit,
        message.smtputf8,
        message.ret,
        message.envid,
        parcel.open_rest,
        file_checked=parcel.open_rest is not None,
    )


def _failure(error: SessionError) -> Failure:
    return Failure(judge_error(error), str(error), error.remote if error.reply is not None else None)


def _credentials(smarthost: RouteSettings | None) -> Credentials | None:
    """Read the credentials. Done for each connection, which is rare, so that a changed password applies at once."""
    if smarthost is None or smarthost.user is None or smarthost.password_file is None:
        return None
    lines = Path(smarthost.password_file).read_text(encoding="utf-8").splitlines()
    return Credentials(smarthost.user, lines[0] if lines else "")
