"""`EventLog` writes each event to the log and to the event store, one line each, off the hot path.

A call only formats two lines in memory; a thread writes them every tenth of a second (`relay.events.writer`).
Where no event loop runs (the supervisor, the shell), each line is written at once if the write does not block.
"""

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

from relay.events import store
from relay.events.bounds import LONGEST, bounded
from relay.events.catalog import (
    KINDS,
    Accepted,
    Authenticated,
    Diagnostic,
    Event,
    Kind,
    LaneChanged,
    Level,
    LinesLost,
    Notified,
    Omitted,
    Outcome,
    Problem,
    Process,
    Refused,
    Steered,
    TlsFailed,
)
from relay.events.descriptor import is_journal
from relay.events.format import Stamp, json_fields, logfmt_fields
from relay.events.limiter import Limiter
from relay.events.per_client import WINDOW, ClientLimiter
from relay.events.recorder import Recorder
from relay.events.segments import Segments
from relay.events.severity import LEVELS, OUTCOMES, PRIORITIES, PROCESS_LEVELS
from relay.events.writer import STDERR, Output, Writer
from relay.model.peer import Peer, TlsFailure, client_of
from relay.smtp.reply import Reply
from relay_config.schema import Settings
from relay_queue.model import Entry, Mark, Message, Recipient
from relay_queue.states import State

_FLUSH_AFTER: Final = 0.1
"""Seconds that a line waits so that it can be written together with others."""
_FLUSH_AT: Final = 256
"""Number of waiting lines (some 64 KiB) that are written at once."""
_REOPENED_AFTER: Final = 0.3
"""Seconds until the outcome of reopening the log file is checked: by then it is open or has failed."""
_REOPEN_EVERY: Final = 0.7
"""Seconds after a failed check until reopening is tried again."""
_LOST_EVERY: Final = 10.0
"""Seconds between reports of lost lines. Reports repeat because a report may be lost as well."""
_SHOWN_RECIPIENTS: Final = 20


class EventLog(Recorder):
    """The recorder of one process. `slot` names the process: a worker's number, `supervisor` or `cli`.

    With `echo` False, nothing goes to the log, so that it does not mix with the shell's own output. Raises OSError if
    the log file cannot be opened; with `must_open` False, the failure is reported as in a running relay instead.
    Methods may be called only from the thread that created the object; `problem` and `diagnostic` from any thread.
    """

    def __init__(
        self,
        settings: Settings,
        slot: str,
        *,
        echo: bool = True,
        must_open: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._slot = slot
        self._echo = echo
        self._data_dir = Path(settings.data_dir)
        self._stamp = Stamp()
        self._heads: dict[tuple[str, Level], tuple[bytes, str]] = {}
        self._limiter = Limiter()
        self._clients = ClientLimiter()
        self._omission: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.get_ident()
        self._scheduled = False
        self._closing = False
        self._lost_told_at = float("-inf")
        self._log_lines: list[bytes] = []
        self._store_lines: list[bytes] = []
        self._path: Path | None = None
        self._log = Output("log", lambda: self._path)
        self._failure_told: tuple[Path, str] | None = None
        self._segments = Segments(self._data_dir, slot, clock)
        self._store = Output("store", self._segments.path)
        self._writer = Writer()
        self._take(settings, must_open=must_open)

    def accepted(self, entry: Entry, peer: Peer | None) -> None:
        """A message is durable in the queue. `peer` is None if the relay or its shell created the message."""
        message, recipients = entry.message, entry.recipients
        event = Accepted(
            id=message.id,
            header_id=message.header_id,
            sender=message.sender,
            recipients=tuple([recipient.address for recipient in recipients[:_SHOWN_RECIPIENTS]]),
            count=len(recipients),
            size=message.size,
            origin=message.origin,
            user=message.user,
        )
        if peer is not None:
            event.peer, event.helo, event.listener, event.tls = peer.address, peer.helo, peer.listener, peer.tls
        self._record(KINDS["accepted"], event)

    def refused(self, peer: Peer, command: str, reply: Reply) -> None:
        """A client's command was answered 4xx or 5xx."""
        if not self._admit(peer, "refused"):
            return
        event = Refused(
            peer=peer.address,
            # The arguments of AUTH may contain a password.
            command="AUTH" if command[:4].upper() == "AUTH" else command,
            reply=str(reply),
            listener=peer.listener,
            helo=peer.helo,
            user=peer.identity.user if peer.identity is not None else None,
            tls=peer.tls,
        )
        self._record(KINDS["refused"], event)

    def authenticated(self, peer: Peer, user: str, *, success: bool) -> None:
        """An AUTH attempt ended."""
        name = "authenticated" if success else "authentication-failed"
        if not success and not self._admit(peer, name):
            return
        event = Authenticated(peer=peer.address, user=user, listener=peer.listener, helo=peer.helo, tls=peer.tls)
        self._record(KINDS[name], event)

    def tls_failed(self, peer: Peer, failure: TlsFailure) -> None:
        """A TLS handshake with a client failed."""
        if not self._admit(peer, "tls-failed"):
            return
        event = TlsFailed(
            peer=peer.address,
            listener=peer.listener,
            reason=failure.reason,
            helo=peer.helo,
            versions=failure.versions,
            ciphers=failure.ciphers,
            name=failure.name,
        )
        self._record(KINDS["tls-failed"], event)

    def outcome(self, message: Message, recipient: Recipient, mark: Mark) -> None:
        """An attempt ended or an admin's action was applied: delivered, deferred, failed, expired, held, dropped."""
        event = Outcome(
            id=message.id,
            n=recipient.n,
            sender=message.sender,
            recipient=recipient.address,
            attempts=mark.attempts,
            delay=round(mark.at - message.received_at, 3),
            user=message.user,
            lane=mark.lane,
            remote=mark.remote,
            reply=mark.reply,
            failure=mark.failure,
            reason=recipient.reason,
            wait=round(mark.due_at - mark.at, 3) if mark.state is State.QUEUED else None,
        )
        self._record(OUTCOMES[mark.state], event)

    def notified(self, kind: str, message: Message, dsn_id: str) -> None:
        """A DSN (`failure`, `delay`, `success`) about `message` was queued under `dsn_id`."""
        self._record(KINDS["notified"], Notified(id=message.id, kind=kind, recipient=message.sender, dsn=dsn_id))

    def lane(self, name: str, what: str, reason: str, until: float | None = None) -> None:
        """A lane was paused (back-off) or resumed; `until` in seconds since the epoch."""
        left = (until or 0.0) - self._clock()
        wait = round(left, 3) if left > 0 else None
        level = Level.INFO if what == "resumed" else Level.WARNING
        self._record(KINDS["lane"], LaneChanged(lane=name, what=what, reason=reason, wait=wait), level)

    def steered(self, action: str, count: int, who: str, *, filters: str = "", reason: str | None = None) -> None:
        """An admin acted on the queue, its suspensions or users; `filters` tells what was selected."""
        self._record(KINDS["steered"], Steered(action=action, count=count, who=who, filters=filters, reason=reason))

    def process(self, what: str, **fields: str | float) -> None:
        """The relay started, stopped, reloaded or lost a worker."""
        self._record(KINDS["process"], Process(what=what, details=fields), PROCESS_LEVELS.get(what))

    def problem(self, where: str, error: BaseException) -> None:
        """An internal fault occurred. It is logged with its trace, once a minute while it repeats."""
        frame = traceback.extract_tb(error.__traceback__, limit=-1)
        place = (frame[-1].filename, frame[-1].lineno) if frame else ()
        repeated = self._limiter.count((where, type(error), *place), self._clock())
        if repeated is None:
            return
        event = Problem(
            where=where,
            error=f"{type(error).__name__}: {error}",
            repeated=repeated or None,
            trace="".join(traceback.format_exception(error)),
        )
        self._from_any_thread(KINDS["problem"], event, Level.ERROR)

    def diagnostic(self, logger: str, level: Level, message: str, trace: str = "") -> None:
        """A library logged a message (see `relay.events.diagnostics`)."""
        self._from_any_thread(KINDS["diagnostic"], Diagnostic(logger=logger, message=message, trace=trace), level)

    def reload(self, settings: Settings) -> None:
        """Use a new format, level and destination. If the destination cannot be opened, report it and keep the old."""
        self.flush()
        try:
            self._take(settings, must_open=True)
        except OSError as error:
            self.process("log not opened", destination=settings.log.destination, reason=error.strerror or str(error))

    def reopen(self) -> None:
        """Reopen the log file after it was moved away.

        If that fails, lines still go to the old file, the failure is reported, and reopening is retried every second.
        """
        if self._closing:
            return
        self.flush()
        self._log.reopen = True
        self._writer.hand(self._log, b"", wait=self._loop is None)
        if self._loop is None:
            self._flush(wait=True)
        else:
            self._loop.call_later(_REOPENED_AFTER, self._look_at_log)

    def _look_at_log(self) -> None:
        assert self._loop is not None, "only a loop looks later"
        self.flush()
        if self._log.failure is not None:
            self._loop.call_later(_REOPEN_EVERY, self.reopen)

    def prune(self, before: float) -> int:
        """Remove days that ended before `before` (epoch seconds) from the store, and the oldest files if it is full.

        Returns how many files were removed. Raises OSError.
        """
        return store.prune(self._data_dir, before) + self._segments.shrink()

    def flush(self) -> None:
        """Pass the waiting lines to the writer; without a loop, also retry the lines that could not be written."""
        self._flush(wait=self._loop is None)
        if self._loop is None:
            self._log.reopen = self._log.reopen or self._log.failure is not None
            for output in (self._store, self._log):
                if output.blocked is not None or output.reopen:
                    self._writer.hand(output, b"", wait=True)
            self._flush(wait=True)

    def close(self) -> None:
        """Write the waiting lines (giving up after two seconds if nobody reads), then close."""
        self._report_omitted()
        self._flush(wait=self._loop is None)
        if not self._writer.close((self._store, self._log)):
            return
        # The thread has ended, so the remaining reports are written here.
        self._scheduled = self._closing = True
        self._lost_told_at = float("-inf")
        self._flush(wait=True)
        self.abandon()

    def abandon(self) -> None:
        """Close the files without writing, in a process that was forked from the log's owner."""
        self._log.close()
        self._store.close()

    def _take(self, settings: Settings, *, must_open: bool) -> None:
        destination = settings.log.destination
        path = None if destination == "stderr" else Path(destination)
        if path is not None and path != self._path and self._echo and must_open:
            # Test the path with a separate output, because the one in use belongs to the writer's thread.
            trial = Output("log", lambda: path)
            trial.prepare()
            trial.close()
        self._path = path
        self._segments.take(settings)
        self._clients.limit = settings.limits.client_events
        self._json = settings.log.format == "json"
        self._journal = path is None and is_journal(STDERR, os.environ.get("JOURNAL_STREAM", ""))
        self._level = LEVELS[settings.log.level] if self._echo else Level.ERROR + 1

    def _record(self, kind: Kind, event: Event, level: Level | None = None) -> None:
        now = self._clock()
        if level is None:
            level = kind.level
        head = self._heads.get((kind.name, level)) or self._make_head(kind.name, level)
        fields = json_fields(event)
        if len(fields) > LONGEST:  # otherwise no value can be too long
            event = bounded(event)
            fields = json_fields(event)
        self._store_lines.append(b'{"time":%.3f,%b%b\n' % (now, head[0], fields))
        if level >= self._level:
            if self._json:
                line = b'{"time":"%b",%b%b\n' % (self._stamp(now).encode(), head[0], fields)
            else:
                line = f"time={self._stamp(now)}{head[1]}{logfmt_fields(event)}\n".encode()
            self._log_lines.append(PRIORITIES[level] + line if self._journal else line)
        if not self._scheduled:
            self._schedule()
        elif len(self._store_lines) >= _FLUSH_AT or level >= Level.ERROR:
            self._flush(wait=False)

    def _admit(self, peer: Peer, event: str) -> bool:
        """Whether to record an event that costs a client nothing. Events not recorded are counted and reported."""
        clients = self._clients
        if not clients.limit:
            return True
        now = self._clock()
        if clients.over(now):
            self._report_omitted()
        stranger = peer.identity is None and not peer.trusted
        if clients.admit(client_of(peer.address), event, now, stranger=stranger):
            return True
        if self._omission is None and self._loop is not None:
            self._omission = self._loop.call_later(WINDOW, self._report_omitted)
        return False

    def _report_omitted(self) -> None:
        """Report how many events of the past minute were not recorded."""
        if self._omission is not None:
            self._omission.cancel()
            self._omission = None
        for one in self._clients.take():
            event = Omitted(peer=one.client, what=one.event, count=one.count, message=f"… and {one.count:,} more")
            self._record(KINDS["omitted"], event, KINDS[one.event].level)

    def _make_head(self, name: str, level: Level) -> tuple[bytes, str]:
        """Return what every line of this event begins with, after the time, as JSON and as logfmt."""
        word = level.name.lower()
        as_json = f'"level":"{word}","event":"{name}","worker":"{self._slot}",'.encode()
        head = self._heads[name, level] = as_json, f" level={word} event={name} worker={self._slot}"
        return head

    def _schedule(self) -> None:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._flush(wait=True)
            return
        self._scheduled = True
        self._loop.call_later(_FLUSH_AFTER, self._timed_flush)

    def _timed_flush(self) -> None:
        self._scheduled = False
        self._flush(wait=False)

    def _flush(self, *, wait: bool) -> None:
        for output, lines in ((self._store, self._store_lines), (self._log, self._log_lines)):
            if lines:
                self._writer.hand(output, b"".join(lines), wait=wait or self._closing)
                lines.clear()
        if self._log.failure != self._failure_told:
            self._tell_failure()
        if self._store.lost > self._store.told or self._log.lost > self._log.told:
            self._tell_lost()

    def _tell_lost(self) -> None:
        now = self._clock()
        if 0 <= now - self._lost_told_at < _LOST_EVERY:
            return
        self._lost_told_at = now
        for output in (self._store, self._log):
            count, output.told = output.lost - output.told, output.lost
            if count:
                event = LinesLost(output=output.name, count=count, reason=output.reason)
                self._record(KINDS["lines-lost"], event)

    def _tell_failure(self) -> None:
        """Report that the log file cannot be opened, or can be again; also on standard error, as logging may fail."""
        failure, self._failure_told = self._log.failure, self._log.failure
        if failure is None:
            self.process("log opened", destination=str(self._path))
            return
        if self._loop is not None:
            self._loop.call_later(_REOPEN_EVERY, self.reopen)
        path, reason = failure
        sys.stderr.write(f"relay: the log {path} cannot be opened: {reason}; it is tried again\n")
        self.process("log not opened", destination=str(path), reason=reason)

    def _from_any_thread(self, kind: Kind, event: Event, level: Level) -> None:
        if threading.get_ident() == self._thread or self._loop is None or self._loop.is_closed():
            self._record(kind, event, level)
        else:
            self._loop.call_soon_threadsafe(self._record, kind, event, level)
