"""Room that is kept for the case that the disk is full: a file that can be given up, a part at a time.

On a full disk nothing can be changed in the queue, not even to drop mail and so make room. So the server sets a file of
a fixed size aside while there is room, and an admin's action that finds none frees a part of it and is tried again.
As long as the file is not whole, no mail is accepted, or it would take the room that was just freed. Must not know what
the room is used for.
"""

import os
from pathlib import Path
from typing import Final

NAME: Final = "reserve"
"""In the data folder."""
SIZE: Final = 8 << 20
"""Octets: enough to hold, drop or flush some ten thousand recipients."""
_SAFE: Final = os.O_NOFOLLOW | os.O_CLOEXEC
_PART: Final = 1 << 20
"""Octets that are given up at a time."""


def whole(data_dir: Path) -> bool:
    """Whether no part was given up; also where there is no reserve, as on a disk that never had room for it."""
    try:
        return (data_dir / NAME).lstat().st_size >= SIZE
    except OSError:
        return True


def release(data_dir: Path) -> bool:
    """Give up a part; False where there is nothing left to give."""
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
    """Make the reserve whole if `spare` octets stay free besides; whether it is whole now. Raises OSError."""
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
    """Under another name first: a reserve that is just being made would count as one that was partly given up."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFE, 0o600)
    try:
        # Not a file with holes, which would take no room.
        os.posix_fallocate(descriptor, 0, SIZE)
    except OSError:
        fresh.unlink()  # without a reserve the disk's room alone decides whether mail is accepted
        raise
    finally:
        os.close(descriptor)
    fresh.rename(path)


def _lengthen(path: Path, size: int) -> None:
    """Make a reserve whole again of which a part was given up."""
    descriptor = os.open(path, os.O_RDWR | _SAFE)
    try:
        os.posix_fallocate(descriptor, 0, SIZE)
    except OSError:
        os.ftruncate(descriptor, size)
        raise
    finally:
        os.close(descriptor)
