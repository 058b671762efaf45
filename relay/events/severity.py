"""The severity of each event, and the event that corresponds to each outcome."""

from typing import Final

from relay.events.catalog import KINDS, Level
from relay_queue.states import State

OUTCOMES: Final = {
    State.QUEUED: KINDS["deferred"],
    State.DELIVERED: KINDS["delivered"],
    State.FAILED: KINDS["failed"],
    State.EXPIRED: KINDS["expired"],
    State.HELD: KINDS["held"],
    State.DROPPED: KINDS["dropped"],
    State.QUARANTINED: KINDS["quarantined"],
}
PROCESS_LEVELS: Final = {
    "queue stopped": Level.ERROR,
    "queue damaged": Level.ERROR,
    "child died": Level.ERROR,
    "child does not respond": Level.ERROR,
    "killing": Level.WARNING,
    "reload refused": Level.WARNING,
    "clock set back": Level.WARNING,
    "log not opened": Level.WARNING,
    "restart needed": Level.WARNING,
}
PRIORITIES: Final = {Level.DEBUG: b"<7>", Level.INFO: b"<6>", Level.WARNING: b"<4>", Level.ERROR: b"<3>"}
"""Priority prefixes that the journal reads from a line (sd-daemon(3)), for `journalctl -p warning`."""
LEVELS: Final = {level.name.lower(): level for level in Level}
