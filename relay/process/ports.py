"""Finds the process that listens on a port of this machine, in /proc, so that "in use" can name the program.

On other systems, and where /proc is not readable, no process is found.
"""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from relay_config.endpoints import Endpoint, is_unspecified

_LISTEN = "0A"
_PROC = Path("/proc")


class User(NamedTuple):
    """A process that uses a port."""

    pid: int
    name: str
    """The program's name as `ps` shows it."""


def listening(endpoint: Endpoint) -> frozenset[str]:
    """Return the inodes of the sockets that listen on the port at the address or at all addresses."""
    found: set[str] = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        with contextlib.suppress(OSError):
            for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
                _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
                address, _, port = local.partition(":")
                if state == _LISTEN and int(port, 16) == endpoint.port and _meet(_host(address, family), endpoint.host):
                    found.add(inode)
    return frozenset(found)


def users(inodes: frozenset[str]) -> list[User]:
    """Return the processes that have any of the sockets open, among those that we may inspect."""
    names = {f"socket:[{inode}]" for inode in inodes}
    found = []
    for folder in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            if any(name in names for name in _open_files(folder / "fd")):
                found.append(User(int(folder.name), (folder / "comm").read_text().strip()))
    return sorted(found)


def _open_files(folder: Path) -> Iterator[str]:
    for link in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed in the meantime
            yield str(link.readlink())


def _host(text: str, family: int) -> str:
    """Return an address of the kernel's table: hexadecimal words of four bytes, each in the machine's byte order."""
    words = [int(text[at : at + 8], 16).to_bytes(4, "little") for at in range(0, len(text), 8)]
    return socket.inet_ntop(family, b"".join(words))


def _meet(one: str, other: str) -> bool:
    """Whether two listeners of one port conflict."""
    if (":" in one) != (":" in other):
        return one == "::"  # accepts IPv4 as well, unless IPV6_V6ONLY is set
    return one == other or is_unspecified(one) or is_unspecified(other)
