"""The users who may submit mail: `users.json` in the data folder, read by the server and changed by the CLI.

The file is small (about 300 bytes per user) and is read as a whole. At each login and at each MAIL of a user, the
server checks the file's modification time, inode and size, and reads it again if they differ, so a change takes effect
at once and needs no signal. A change replaces the file durably under a separate lock, so simultaneous commands do not
lose changes, and a crash leaves either the old file or the new one.
"""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from relay.smtp.address import parse_address
from relay.submission.passwords import Credential
from relay_config.names import BadNameError, check_domain
from relay_queue.durable import Disk

FILE: Final = "users.json"
"""Name of the file in the data folder."""
_VERSION: Final = 1
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._+@-]{0,126}[a-z0-9])?")
_MODE: Final = 0o600
_FRESH: Final = 0.001
"""Seconds for which a check of the file remains valid, because a busy server accepts thousands of messages a second."""


class UserFileError(Exception):
    """The file cannot be read or written; the message names it and says what to do."""


class User(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One user."""

    name: str
    """Lower case; compared without regard to case."""
    credential: Credential
    senders: tuple[str, ...]
    """Addresses and domains the user may send from, or `*`: `a@example.org`, `example.org`."""
    created_at: float
    """Seconds since 1970."""
    disabled: bool = False
    """The user is kept but cannot log in."""


class _Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of the file."""

    version: int
    users: tuple[User, ...]


_DECODER: Final = msgspec.json.Decoder(_Content)


class Users:
    """The server's view of the file: always the newest valid state."""

    def __init__(self, path: Path, on_problem: Callable[[UserFileError], None] | None = None) -> None:
        """Read the file; a missing file means no users. Raises `UserFileError` if it cannot be read or is damaged.

        If the file is damaged later, the users stay as they were and the error is passed to `on_problem`, once for each
        state of the file.
        """
        self._path = path
        self._on_problem = on_problem
        self._seen = _fingerprint(path)
        self._users = read_users(path)
        self.generation = 0
        """The number of the state of the file that was read last."""
        self._looked_at = float("-inf")
        self._credential_since = dict.fromkeys(self._users, 0)

    def find(self, name: str) -> User | None:
        """The user with that name, regardless of case; None if there is none."""
        self._refresh()
        # Non-ASCII names are excluded because `lower` would convert the Kelvin sign to a k.
        return self._users.get(name.lower()) if name.isascii() else None

    def all(self) -> tuple[User, ...]:
        """All users, sorted by name."""
        self._refresh()
        return tuple(self._users[name] for name in sorted(self._users))

    def newest_generation(self) -> int:
        """The number of the file's current state; it grows with each change. Fast enough to call for each message."""
        now = time.monotonic()
        if now - self._looked_at > _FRESH:
            self._looked_at = now
            self._refresh()
        return self.generation

    def still_valid(self, name: str, generation: int) -> User | None:
        """The current user; None if it was removed or disabled, or got another password after that generation."""
        user = self._users.get(name)
        if user is None or user.disabled or self._credential_since[name] > generation:
            return None
        return user

    def _take(self, users: dict[str, User]) -> None:
        """Replace the users with a new state of the file, and note whose credential changed."""
        self.generation += 1
        before, since = self._users, self._credential_since
        self._credential_since = {
            name: since[name] if name in before and before[name].credential == user.credential else self.generation
            for name, user in users.items()
        }
        self._users = users

    def _refresh(self) -> None:
        # The fingerprint is taken before reading, so that a change between the two is noticed the next time.
        now = _fingerprint(self._path)
        if now == self._seen:
            return
        self._seen = now
        try:
            self._take(read_users(self._path))
        except UserFileError as error:
            if self._on_problem is not None:
                self._on_problem(error)


def read_users(path: Path) -> dict[str, User]:
    """All users by name; empty if there is no file. Raises `UserFileError`."""
    try:
        content = _DECODER.decode(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserFileError(f"{path}: cannot be read ({error.strerror}); make it the relay's own, mode 0600") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserFileError(f"{path}: damaged ({error}); restore it, or move it away and add the users anew") from error
    if content.version != _VERSION:
        raise UserFileError(f"{path}: version {content.version}, and this relay knows {_VERSION}; use a newer relay")
    users = {user.name: user for user in content.users}
    if len(users) < len(content.users):
        raise UserFileError(f"{path}: damaged (a name stands there twice); remove one of the two")
    return users


@contextmanager
def editing(path: Path, disk: Disk | None = None) -> Iterator[dict[str, User]]:
    """The users by name, to be changed in place. They are written durably at the end, but not after an exception.

    Other edits wait until this one ends. Raises `UserFileError`.
    """
    with _locked(path):
        users = read_users(path)
        before = dict(users)
        yield users
        if users != before:
            _replace(path, tuple(users[name] for name in sorted(users)), disk or Disk())


def check_name(name: str) -> str:
    """The name as stored, in lower case. Raises ValueError with a sentence if it is not a valid user name."""
    lowered = name.lower()
    if not name.isascii() or not _NAME.fullmatch(lowered):
        raise ValueError("A user's name is letters, digits and . _ + @ - (at most 128), like app1 or ann@example.org.")
    return lowered


def check_sender(sender: str) -> str:
    """An allowed sender as stored: `*`, a domain, or an address in canonical form. Raises ValueError."""
    if sender == "*":
        return sender
    local, at, domain = sender.rpartition("@")
    try:
        check_domain(domain, underscores=True)
    except BadNameError as error:
        raise ValueError(f"{domain!r} is no domain: {error}.") from error
    if not at:
        return domain.lower()
    found = parse_address(f"{local}@{domain.lower()}")
    if not isinstance(found, str):
        return found.address
    raise ValueError(f"{sender!r} is no address; write one like ann@example.org, a domain, or *.")


def _fingerprint(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None  # reading the file will report the error
    return status.st_mtime_ns, status.st_ino, status.st_size


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # The lock is a separate file: users.json is replaced by each edit, so a lock on the old file would not exclude
    # other processes.
    lock = path.with_name(f".{path.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
    except OSError as error:
        raise UserFileError(f"{lock}: cannot be opened ({error.strerror})") from error
    try:
        _give_to_owner(descriptor, path.parent)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, users: tuple[User, ...], disk: Disk) -> None:
    text = msgspec.json.format(msgspec.json.encode(_Content(_VERSION, users)), indent=2) + b"\n"
    new = path.with_name(f".{path.name}.new")
    try:
        disk.remove(new)  # left by a crash; because of the lock, no other process is writing it
        descriptor = disk.create(new)
        try:
            _give_to_owner(descriptor, path.parent)
            _write_all(descriptor, text)
            disk.sync(descriptor)
        finally:
            os.close(descriptor)
        disk.rename(new, path)
        disk.sync_folder(path.parent)
    except OSError as error:
        raise UserFileError(f"{path}: cannot be written ({error.strerror}); nothing was changed") from error


def _write_all(descriptor: int, text: bytes) -> None:
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _give_to_owner(descriptor: int, folder: Path) -> None:
    """Give a file written by root to the folder's owner, because the server could not read it otherwise."""
    # A second hard link would mean that someone put another file in its place, whose owner must not change.
    if os.geteuid() == 0 and os.fstat(descriptor).st_nlink == 1:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
