"""The steps by which a file becomes durable. Every durable write outside the database goes through a `Disk`.

Its own class so that a test can let any one step fail. Must not know what the files mean.
"""

import os
from pathlib import Path


class Disk:
    """Durable steps on the real file system; each raises OSError as it comes."""

    def create(self, path: Path) -> int:
        """Create a file nobody else can read and open it for appending and reading; never follows a link."""
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def sync(self, descriptor: int) -> None:
        """Bring a file's octets and size to the medium. After a failure the descriptor must not be believed again."""
        os.fsync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Move a file within the file system; durable only after `sync_folder` of the target's folder."""
        source.rename(target)

    def make_folder(self, path: Path) -> None:
        """Create a private folder; durable only after `sync_folder` of its parent."""
        path.mkdir(mode=0o700)

    def sync_folder(self, path: Path) -> None:
        """Bring a folder's entries to the medium."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, path: Path) -> None:
        """Unlink a file; gone already is good enough."""
        path.unlink(missing_ok=True)
