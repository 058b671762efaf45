"""What a reload cannot change: it was used when the server started, as root or before the workers were made.

Pure: settings in, settings or sentences out. `needs_restart` names each such change for the log; `in_force` leaves it
out, so that no part of a server believes a setting that another part does not have.
"""

from typing import Final, NamedTuple

import msgspec

from relay_config.schema import Listener, Settings

_FIXED: Final = ("data_dir", "workers", "pin_workers", "user")


class Change(NamedTuple):
    """One change that waits for a restart."""

    setting: str
    """`workers`, `listener 0.0.0.0:587 tls`."""
    running: str
    """What the server runs with."""
    wanted: str
    """What the settings say."""


def needs_restart(started: Settings, wanted: Settings) -> list[Change]:
    """Every setting that differs from what the server was started with and needs a restart, one by one."""
    changes = [
        Change(name, _shown(getattr(started, name)), _shown(getattr(wanted, name)))
        for name in _FIXED
        if getattr(started, name) != getattr(wanted, name)
    ]
    if started.sandbox.receiver != wanted.sandbox.receiver:
        changes.append(Change("sandbox.receiver", _shown(started.sandbox.receiver), _shown(wanted.sandbox.receiver)))
    return changes + _listener_changes(started, wanted)


def in_force(started: Settings, wanted: Settings) -> Settings:
    """The wanted settings without what needs a restart."""
    # A receiver that is new in the settings is kept although nobody listens there yet: mail waits rather than leaves.
    receiver = started.sandbox.receiver or wanted.sandbox.receiver
    return msgspec.structs.replace(
        wanted,
        **{name: getattr(started, name) for name in _FIXED},
        sandbox=msgspec.structs.replace(wanted.sandbox, receiver=receiver),
        listener=tuple(running_listener(listener, wanted) for listener in started.listener),
    )


def running_listener(started: Listener, wanted: Settings) -> Listener:
    """A listener of the start with what a reload can change of it; as it was where the settings have it no more."""
    new = next((listener for listener in wanted.listener if listener.address == started.address), started)
    if _accepts_itself(started) or not _accepts_itself(new):
        return new
    return msgspec.structs.replace(new, tls=started.tls, proxy_protocol=started.proxy_protocol)


def _accepts_itself(listener: Listener) -> bool:
    """Whether something comes before the session, for which `relay.smtp.server.listen` accepts in another way.

    That way can serve sessions without it as well, but not the reverse.
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
