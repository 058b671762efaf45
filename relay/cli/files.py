"""Files that commands make: private, new, whole. Nothing here overwrites anything."""

import os
from pathlib import Path

from relay.cli.exits import FailureError


def write_new(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file that must not exist yet, durably; its folder is made (0700) where it is missing."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def private(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)

    try:
        with open(path, "xb", opener=private) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise FailureError(f"{path} exists already; nothing was overwritten.") from None
