"""A disk whose power can be cut: a file system in an image file, mounted on a loop device.

The cut is the kernel's own `FS_IOC_SHUTDOWN` with NOLOGFLUSH: from that instant nothing reaches the medium any more,
neither pages in memory nor the journal. What is there after the next mount is what had been made durable (and whatever
the kernel happened to write on its own). It does not imitate a drive that lies about its cache, nor torn sectors.
"""

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

_FS_IOC_SHUTDOWN = 0x8004587D
_NOLOGFLUSH = 2
_MAKE = {
    "ext4": (["mkfs.ext4", "-q", "-F"], 128 << 20),
    "xfs": (["mkfs.xfs", "-q", "-f"], 320 << 20),
}


class NoPowerError(Exception):
    """This machine does not let us mount, with the reason in words."""


class PowerDisk:
    """The mounted image; `cut`, then `remount`."""

    def __init__(self, folder: Path, kind: str = "ext4") -> None:
        if os.geteuid() != 0:
            raise NoPowerError("power cuts need root (mount)")
        command, size = _MAKE[kind]
        for tool in (command[0], "mount", "umount"):
            if shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
                raise NoPowerError(f"{tool} is not installed")
        self.kind = kind
        self.image = folder / f"{kind}.img"
        self.mount_point = folder / f"{kind}-disk"
        self.mount_point.mkdir()
        with self.image.open("wb") as file:
            file.truncate(size)
        self._run(*command, str(self.image))
        self.mount()

    @property
    def data_dir(self) -> Path:
        return self.mount_point / "data"

    def mount(self) -> None:
        self._run("mount", "-t", self.kind, "-o", "loop", str(self.image), str(self.mount_point))

    def cut(self) -> None:
        """The power goes, now."""
        descriptor = os.open(self.mount_point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, _FS_IOC_SHUTDOWN, struct.pack("i", _NOLOGFLUSH))
        except OSError as error:
            raise NoPowerError(f"{self.kind} cannot be shut down here: {error.strerror}") from error
        finally:
            os.close(descriptor)

    def unmount(self, patience: float = 10.0) -> None:
        """Processes that used it must be dead; the kernel may take a moment to let go of their files."""
        deadline = time.monotonic() + patience
        while True:
            done = subprocess.run(["umount", str(self.mount_point)], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return
            if time.monotonic() > deadline:
                raise NoPowerError(f"umount: {done.stderr.strip()}")
            time.sleep(0.01)

    def remount(self) -> None:
        self.unmount()
        self.mount()

    def close(self) -> None:
        if os.path.ismount(self.mount_point):
            subprocess.run(["umount", "-l", str(self.mount_point)], check=False)
        self.image.unlink()

    @staticmethod
    def _run(*command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NoPowerError(f"{' '.join(command[:3])}: {(done.stderr or done.stdout).strip()}")


@contextlib.contextmanager
def power_disk(folder: Path, kind: str = "ext4") -> Iterator[PowerDisk]:
    """A fresh disk; unmounted at the end. Raises `NoPowerError` where the machine forbids it."""
    disk = PowerDisk(folder, kind)
    try:
        yield disk
    finally:
        disk.close()
