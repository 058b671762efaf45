"""Settings that a reload cannot change, because they were used at the start, as root or before the workers existed.

Pure: settings in, settings or sentences out. `needs_restart` lists these changes for the log; `in_force` removes them
from the new settings, so that all parts of a server use the same values.
"""

from typing import Final, NamedTuple

import msgspec

from relay_config.schema import Listener, Settings

_FIXED: Final = ("data_dir", "workers", "pin_workers", "user")


class Change(NamedTuple):
    """A change that takes effect only after a restart."""

    setting: str
    """Name of the setting, such as `workers` or `listener 0.0.0.0:587 tls`."""
    running: str
    """The value that the server uses."""
    wanted: str
    """The value in the settings file."""


def needs_restart(started: Settings, wanted: Settings) -> list[Change]:
    """Return every setting that differs from the value at the start and needs a restart."""
    changes = [
        Change(name, _shown(getattr(started, name)), _shown(getattr(wanted, name)))
        for name in _FIXED
        if getattr(started, name) != getattr(wanted, name)
    ]
    if started.sandbox.receiver != wanted.sandbox.receiver:
        changes.append(Change("sandbox.receiver", _shown(started.sandbox.receiver), _shown(wanted.sandbox.receiver)))
    return changes + _listener_changes(started, wanted)


def in_force(started: Settings, wanted: Settings) -> Settings:
    """Return the wanted settings without the changes that need a restart."""
    # A new receiver is used although nothing listens there yet: mail must wait rather than leave the sandbox.
    receiver = started.sandbox.receiver or wanted.sandbox.receiver
    return msgspec.structs.replace(
        wanted,
        **{name: getattr(started, name) for name in _FIXED},
        sandbox=msgspec.structs.replace(wanted.sandbox, receiver=receiver),
        listener=tuple(running_listener(listener, wanted) for listener in started.listener),
    )


def running_listener(started: Listener, wanted: Settings) -> Listener:
    """Return a running listener with its reloadable settings; unchanged if the new settings do not contain it."""
    new = next((listener for listener in wanted.listener if listener.address == started.address), started)
    if _accepts_itself(started) or not _accepts_itself(new):
        return new
    return msgspec.structs.replace(new, tls=started.tls, proxy_protocol=started.proxy_protocol)


def _accepts_itself(listener: Listener) -> bool:
    """Whether something precedes the SMTP session, so that `relay.smtp.server.listen` accepts connections itself.

    A listener that accepts in this way can also serve plain sessions, but not the reverse.
    """
    return listener.proxy_protocol or listener.tls == "implicit"


def _listener_changes(started: Settings, wanted: Settings) -> list[Change]:
    changes = []
    old, new = ({listener.address: listener for listener in settings.listener} for settings in (started, wanted))
    for address, listener in old.items():
        if address not in new:
            changes.append(Change(f"listener {address}", "listening", "removed"))
            continue
        running = running_listener(listener, wanted)
        for name in ("tls", "proxy_protocol"):
            if getattr(running, name) != getattr(new[address], name):
                shown = _shown(getattr(running, name)), _shown(getattr(new[address], name))
                changes.append(Change(f"listener {address} {name}", *shown))
    changes += [Change(f"listener {address}", "not listening", "added") for address in new if address not in old]
    return changes


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "not set" if value is None else str(value)
