"""The supervisor starts the workers, restarts those that die, forwards signals, and ends when all workers have ended.

It has no event loop and no threads, so that it can fork at any time; it never touches mail. The messages that a dead
worker had claimed go to its successor. A worker that hangs stops its pulse and is killed, because it may hold the write
lock that all others wait for. If the supervisor itself is killed, its workers notice that (`lifeline`) and end; the
next start kills those that hang (`orphans`).
"""

import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from relay.process.failures import StartError, say
from relay.process.pulse import BEAT_EVERY, Pulse

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1)
CHILD_UNBLOCKS = frozenset({signal.SIGHUP, signal.SIGUSR1})
"""Signals that are blocked when a child starts; the child unblocks them once it has handlers."""
_QUICK = 2.0
"""Seconds. A child that lives less than this died while starting."""
_QUICK_DEATHS = 5
"""This many such deaths in a row are fatal: the cause lies outside, and restarting does not fix it."""
STOP_GRACE = 30.0
"""Seconds that running transactions have to finish after SIGTERM."""
_KILL_AFTER = STOP_GRACE + 10.0
UNRESPONSIVE_AFTER = 30.0
"""Seconds without a beat after which a child is killed. This is far more than any iteration of a working loop takes,
and less than clients wait for a reply. The beat comes from the event loop, so an fsync that takes minutes does not
stop it."""


def close_ears() -> None:
    """Block signals in a child whose event loop is closing, as the loop's wake-up socket could not take them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


@dataclass(slots=True)
class Child:
    """A child process that the supervisor keeps running."""

    name: str
    main: Callable[[int], int]
    """Runs in the child with the read end of the lifeline; returns the exit status."""
    on_death: Callable[[], None] = lambda: None
    """Called in the supervisor after a death, before the successor starts."""
    pid: int = 0
    started_at: float = 0.0
    quick_deaths: int = 0
    pulse: Pulse | None = None
    """The child's heartbeat, or None if the supervisor does not check whether it responds."""


@dataclass(slots=True)
class Supervisor:
    """Keeps `children` running until it is stopped by a signal. `tell(what, **fields)` reports events."""

    children: list[Child]
    tell: Callable[..., None]
    on_reload: Callable[[], bool] = lambda: True
    """Called on SIGHUP, before the signal is forwarded, so that children started later get the new settings too. False
    means that the new settings are invalid; then the children are only asked to reopen their log files (SIGUSR1)."""
    on_reopen: Callable[[], None] = lambda: None
    """Called on SIGUSR1, before the signal is forwarded."""
    on_look: Callable[[], None] = lambda: None
    """Called about once a second, to retry log lines that could not be written before."""
    in_child: Callable[[], None] = lambda: None
    """Called first in each child, which has inherited the supervisor's open files."""
    unresponsive_after: float = UNRESPONSIVE_AFTER
    _lifeline: tuple[int, int] = field(default=(-1, -1), init=False)
    _status: int = field(default=0, init=False)
    _looked_at: float = field(default=0.0, init=False)

    def run(self) -> int:
        """Run until the end; returns the exit status, 0 after a requested stop."""
        self._lifeline = os.pipe()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        # sigwait never sees a signal that is ignored by default, so it needs a handler, whichever it is.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._looked_at = time.monotonic()
        try:
            for child in self.children:
                self._start(child)
            self._watch()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            for end in self._lifeline:
                os.close(end)
        return self._status

    def _watch(self) -> None:
        while True:
            # `sigwait` has no timeout.
            received = signal.sigtimedwait(_SIGNALS, BEAT_EVERY)
            self._look()
            if received is None:
                continue
            number = received.si_signo
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop(f"got {signal.Signals(number).name}")
                return
            if number in (signal.SIGHUP, signal.SIGUSR1):
                self._renew(number)
            elif not self._reap():
                return

    def _renew(self, number: int) -> None:
        if number == signal.SIGUSR1:
            self.on_reopen()
        elif not self.on_reload():
            number = signal.SIGUSR1
        self._signal(number)

    def _look(self) -> None:
        """Kill children whose pulse has stopped.

        Silence is counted in the supervisor's own checks, each worth one beat at most. If the supervisor was stopped as
        well (SIGSTOP to the whole group, a suspended machine), the clock alone would show a long silence of all
        children although none of them hangs.
        """
        self.on_look()
        now = time.monotonic()
        passed, self._looked_at = now - self._looked_at, now
        for child in self.children:
            if child.pulse is None or not child.pid:
                continue
            silent = child.pulse.silent(min(passed, 2 * BEAT_EVERY))
            if silent >= self.unresponsive_after:
                os.kill(child.pid, signal.SIGKILL)
                child.pulse.reset()
                self.tell("child does not respond", name=child.name, silent=round(silent, 1))

    def _reap(self) -> bool:
        """Restart children that died. Returns False if the supervisor gives up."""
        for child, status in self._dead():
            lived = time.monotonic() - child.started_at
            self.tell("child died", name=child.name, status=os.waitstatus_to_exitcode(status), lived=round(lived, 1))
            child.quick_deaths = child.quick_deaths + 1 if lived < _QUICK else 0
            if child.quick_deaths >= _QUICK_DEATHS:
                self._status = 1
                self._stop(f"{child.name} dies again and again")
                return False
            if child.quick_deaths:
                time.sleep(0.1 * 2**child.quick_deaths)
            self._start(child)
        return True

    def _dead(self) -> list[tuple[Child, int]]:
        dead = []
        for child in self.children:
            if child.pid:
                pid, status = os.waitpid(child.pid, os.WNOHANG)
                if pid:
                    child.pid = 0
                    child.on_death()
                    dead.append((child, status))
        return dead

    def _stop(self, reason: str) -> None:
        # Send the signal first, so that the children stop even if logging fails.
        self._signal(signal.SIGTERM)
        self.tell("stopping", reason=reason)
        deadline = time.monotonic() + _KILL_AFTER
        while any(child.pid for child in self.children):
            left = deadline - time.monotonic()
            if left <= 0:
                self._signal(signal.SIGKILL)
                self.tell("killing", names=" ".join(child.name for child in self.children if child.pid))
                deadline = time.monotonic() + _KILL_AFTER
                self._status = 1
            signal.sigtimedwait((signal.SIGCHLD,), min(max(left, 0.05), 0.5))
            self.on_look()
            self._dead()
        self.tell("stopped")

    def _signal(self, number: int) -> None:
        for child in self.children:
            if child.pid:
                os.kill(child.pid, number)

    def _start(self, child: Child) -> None:
        child.started_at = time.monotonic()
        if child.pulse is not None:
            child.pulse.reset()
        pid = os.fork()
        if pid:
            child.pid = pid
            return
        status = 1
        try:
            os.close(self._lifeline[1])
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.in_child()
            # `CHILD_UNBLOCKS` stay blocked until the child has handlers: a reload must not kill a starting child.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, set(_SIGNALS) - CHILD_UNBLOCKS)
            status = child.main(self._lifeline[0])
        except StartError as error:
            say(f"{child.name} cannot start: {error}")
        except BaseException:  # noqa: BLE001 - whatever it is, the child ends here and must report why
            traceback.print_exc()
        finally:
            # Not sys.exit: it would unwind the parent's stack and run its exit handlers in the child.
            os._exit(status)
