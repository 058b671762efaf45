"""Creates the files of commands: private, new and complete. Existing files are never overwritten."""

import os
from pathlib import Path

from relay.cli.exits import FailureError


def write_new(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a new file durably; a missing folder is created (0700). Raises `FailureError` if the file exists."""
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
