"""Records the messages of Python's `logging` and `warnings` as events, so that libraries log to the same place.

Only warnings and errors are recorded: aiosmtpd and asyncio log every command at lower levels.
"""

import logging
import time
import traceback
from collections.abc import Callable
from typing import Final

from relay.events.catalog import Level
from relay.events.limiter import Limiter
from relay.events.log import EventLog

_LEVELS: Final = ((logging.ERROR, Level.ERROR), (logging.WARNING, Level.WARNING), (logging.INFO, Level.INFO))


class Diagnostics(logging.Handler):
    """Turns log records into `diagnostic` events; a repeated message is recorded once a minute."""

    def __init__(self, log: EventLog, clock: Callable[[], float] = time.time) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._clock = clock
        self._limiter = Limiter()

    def emit(self, record: logging.LogRecord) -> None:
        """Record a message. Called under the handler's lock, from any thread."""
        repeated = self._limiter.count((record.name, record.pathname, record.lineno), self._clock())
        if repeated is None:
            return
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # arguments that do not fit the text
            message = str(record.msg)
        if repeated:
            message += f" ({repeated} more like this were left out)"
        trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        level = next((ours for theirs, ours in _LEVELS if record.levelno >= theirs), Level.DEBUG)
        self._log.diagnostic(record.name, level, message, trace)


def install(log: EventLog) -> Callable[[], None]:
    """Send `logging` and `warnings` to the log instead of the current handlers. Returns a function that undoes it."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    handler = Diagnostics(log)
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)

    def uninstall() -> None:
        logging.captureWarnings(capture=False)
        root.handlers[:] = before
        root.setLevel(level)

    return uninstall
