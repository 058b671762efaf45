"""What every command needs: the settings, the data folder, the queue, and notices to a running server.

Commands run as the owner of the data folder: root changes to that user first, so that no file in the folder belongs to
root, because the server could not access it.
"""

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

import click

from relay.cli.exits import FailureError
from relay.cli.output import remark
from relay.events.recorder import Recorder
from relay.process.failures import program_readable
from relay_config.schema import Settings
from relay_queue.protocol import Admin


class Shell:
    """One invocation of the command line."""

    def __init__(self, config: str | None) -> None:
        self._config = config
        self.who = os.environ.get("SUDO_USER") or user_name(os.getuid())
        """The user who ran the command, determined before root changes to another user."""

    @cached_property
    def settings_path(self) -> Path | None:
        """The settings file: the named one, or the first that exists. None: all settings are in the environment."""
        from relay_config.load import find_settings

        if self._config is not None:
            return Path(self._config)
        return find_settings(os.environ, Path.cwd())

    @property
    def settings_name(self) -> str:
        """The location of the settings, for messages."""
        return "the environment" if self.settings_path is None else str(self.settings_path)

    @cached_property
    def settings(self) -> Settings:
        """The settings. Raises `SettingsError` with all faults."""
        from relay_config.load import load

        return load(self.settings_path, os.environ)

    @cached_property
    def data_dir(self) -> Path:
        """The data folder, which exists and is readable. From now on this process runs as its owner."""
        folder = Path(self.settings.data_dir)
        try:
            self._hand_over(folder)
            status = folder.lstat()
        except FileNotFoundError:
            raise FailureError(
                f"{folder}: no such data folder.",
                f"Set `data_dir` in {self.settings_name}, or make the folder with `relay init`.",
            ) from None
        if not stat.S_ISDIR(status.st_mode):
            raise FailureError(f"{folder} is a symbolic link or no folder.", "Name the data folder itself.")
        become(status.st_uid, status.st_gid)
        if not program_readable():
            # Otherwise each later import would fail.
            raise FailureError(
                f"{user_name(status.st_uid)}, who owns {folder}, cannot read Python in {Path(os.__file__).parent}.",
                "Install it where everyone can read it, e.g. with a system Python in /opt/relay.",
            )
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            owner = user_name(status.st_uid)
            raise FailureError(
                f"{folder}: permission denied; the folder belongs to {owner}.",
                f"Run this as root or as that user: `sudo -u {owner} relay …`.",
            )
        return folder

    def _hand_over(self, folder: Path) -> None:
        """Give an empty folder that root created to the relay's user, as a start of the relay does."""
        from relay.process.privileges import PrivilegeError, hand_over, unprivileged

        try:
            identity = unprivileged(self.settings.user)
        except PrivilegeError as error:
            raise FailureError(f"{error}.") from error
        if identity is not None and folder.lstat().st_uid == 0 and not any(folder.iterdir()):
            hand_over(folder, identity)

    @contextmanager
    def as_owner(self, *paths: Path) -> Iterator[None]:
        """As root, act as the folder's owner if that user controls what the paths lead to."""
        from relay.process.privileges import Identity, on_behalf_of

        identity = None
        if os.geteuid() == 0:
            with suppress(FileNotFoundError):
                status = Path(self.settings.data_dir).lstat()
                identity = Identity(status.st_uid, status.st_gid, ()) if status.st_uid else None
        with on_behalf_of(identity, *paths):
            yield

    @contextmanager
    def admin(self) -> Iterator[Admin]:
        """Open the queue for reading and for admin actions."""
        from relay_queue.sqlite import open_admin

        admin = open_admin(self.data_dir)
        try:
            yield admin
        finally:
            admin.close()

    def wake(self) -> None:
        """Notify a running server of a change; without one, the change takes effect at the next start."""
        from relay.process.wake import notify

        notify(self.data_dir)

    @contextmanager
    def recorder(self) -> Iterator[Recorder]:
        """Open a recorder of admin actions. It writes only to the event store, as the log belongs to the server."""
        from relay.events.log import EventLog

        data_dir = self.data_dir
        (data_dir / "events").mkdir(mode=0o700, exist_ok=True)
        log = EventLog(self.settings, "cli", echo=False)
        try:
            yield log
        finally:
            log.close()

    def record_steered(self, action: str, count: int, *, filters: str = "", reason: str | None = None) -> None:
        """Record an action on the queue, its suspensions or users."""
        with self.recorder() as recorder:
            recorder.steered(action, count, self.who, filters=filters, reason=reason)

    def running(self) -> bool:
        """Whether a server runs on this data folder."""
        from relay.process.lock import holder

        return holder(self.data_dir) is not None

    def remark_if_stopped(self) -> None:
        """Print a remark if nothing will be delivered because no server runs."""
        if not self.running():
            remark("The relay is not running: nothing is delivered until `relay serve` is started.")


pass_shell = click.make_pass_decorator(Shell)


def become(uid: int, gid: int) -> None:
    """Change root permanently to the given user; for any other user, do nothing."""
    if os.geteuid() != 0 or uid == 0:
        return
    try:
        os.initgroups(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:  # a user without a name, as in containers
        os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def user_name(uid: int) -> str:
    """Return the name of a user, or the number if there is no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
