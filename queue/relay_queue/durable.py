"""The steps that make a file durable. Every durable write outside the database goes through a `Disk`.

They are methods of a class so that a test can make any single step fail. Must not know what the files contain.
"""

import os
from pathlib import Path


class Disk:
    """Durable steps on the real file system. Each raises OSError unchanged."""

    def create(self, path: Path) -> int:
        """Create a private file (mode 0600) and open it for appending and reading; never follows a symbolic link."""
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def sync(self, descriptor: int) -> None:
        """Write a file's bytes and size to the disk. After a failure, do not trust later success on the descriptor."""
        os.fsync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Move a file within the file system; durable only after `sync_folder` of the target's folder."""
        source.rename(target)

    def make_folder(self, path: Path) -> None:
        """Create a private folder; durable only after `sync_folder` of its parent."""
        path.mkdir(mode=0o700)

    def sync_folder(self, path: Path) -> None:
        """Write a folder's entries to the disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, path: Path) -> None:
        """Unlink a file; it is no error if the file does not exist."""
        path.unlink(missing_ok=True)
