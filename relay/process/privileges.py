"""Becoming an unprivileged user once the listeners are bound."""

import grp
import os
import pwd


class PrivilegeError(Exception):
    """The user can't be become; the text says why."""


def drop(user: str | None) -> None:
    """Become `user` for good: groups, group, user; nothing to do when not root or no user is set."""
    if user is None or os.geteuid() != 0:
        return
    record = lookup(user)
    os.setgroups([group.gr_gid for group in grp.getgrall() if user in group.gr_mem])
    os.setgid(record.pw_gid)
    os.setuid(record.pw_uid)
    if os.getuid() == 0 or os.geteuid() == 0:
        raise PrivilegeError(f"still root after becoming {user}")
    os.environ["HOME"] = record.pw_dir


def lookup(user: str) -> pwd.struct_passwd:
    """The user's record; PrivilegeError when there is no such user."""
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise PrivilegeError(f"no such system user: {user}; create it with `useradd --system {user}`") from None
