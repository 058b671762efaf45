"""Reserved disk space for the case that the disk is full: a file that can be released one part at a time.

On a full disk nothing in the queue can be changed, not even to drop mail and so free space. Therefore the server
creates a file of a fixed size while there is space. An admin's action that finds the disk full releases a part of it
and is tried again. While the file is not complete, no mail is accepted, because it would take the space that was just
freed. Must not know what the space is used for.
"""

import os
from pathlib import Path
from typing import Final

NAME: Final = "reserve"
"""File name in the data folder."""
SIZE: Final = 8 << 20
"""Bytes: enough to hold, drop or flush about ten thousand recipients."""
_SAFE: Final = os.O_NOFOLLOW | os.O_CLOEXEC
_PART: Final = 1 << 20
"""Bytes that are released at a time."""


def whole(data_dir: Path) -> bool:
    """Whether no part was released. Also true if there is no reserve, because the disk never had space for it."""
    try:
        return (data_dir / NAME).lstat().st_size >= SIZE
    except OSError:
        return True


def release(data_dir: Path) -> bool:
    """Release a part; False if nothing is left. Raises OSError."""
    try:
        descriptor = os.open(data_dir / NAME, os.O_RDWR | _SAFE)
    except OSError:
        return False
    try:
        size = os.fstat(descriptor).st_size
        os.ftruncate(descriptor, max(0, size - _PART))
    finally:
        os.close(descriptor)
    return size > 0


def fill(data_dir: Path, spare: float) -> bool:
    """Fill the reserve if `spare` bytes remain free besides it; returns whether it is complete now. Raises OSError."""
    path = data_dir / NAME
    try:
        size: int | None = path.lstat().st_size
    except FileNotFoundError:
        size = None
    if size is not None and size >= SIZE:
        return True
    disk = os.statvfs(data_dir)
    if disk.f_bavail * disk.f_frsize + (size or 0) - SIZE < spare:
        return False
    if size is None:
        _make(path)
    else:
        _lengthen(path, size)
    return True


def _make(path: Path) -> None:
    """Created under another name first: an incomplete new file would count as a partly released reserve."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFE, 0o600)
    try:
        # Allocates the blocks: a sparse file would reserve no space.
        os.posix_fallocate(descriptor, 0, SIZE)
    except OSError:
        fresh.unlink()  # without a reserve, only the free space on the disk decides whether mail is accepted
        raise
    finally:
        os.close(descriptor)
    fresh.rename(path)


def _lengthen(path: Path, size: int) -> None:
    """Fill a reserve again after a part was released."""
    descriptor = os.open(path, os.O_RDWR | _SAFE)
    try:
        os.posix_fallocate(descriptor, 0, SIZE)
    except OSError:
        os.ftruncate(descriptor, size)
        raise
    finally:
        os.close(descriptor)
