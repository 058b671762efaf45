"""Wake-ups between processes: datagrams to `run/worker-N.sock`, from other workers and from the shell.

A notice (`relay.model.notices`) is only a hint: the queue has the actual state, and every worker also scans it by
itself. So a notice may arrive twice, or at a worker that has just started and already knows the state. But while a
worker listens, it must learn that something happened:

- A sender whose notices do not fit into the receiver's socket buffer replaces them by one `Everything`, which it
  retries until it is sent (`Notifier`).
- A sender that cannot wait (`notify`, from the shell) may simply exit: its own socket was empty, so only the receiver's
  buffer can have been full, and a receiver that finds its buffer full treats that as `Everything`.

A datagram contains many notices, one per line as JSON; equal notices that wait together are sent once.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from relay.model.notices import Everything, Notice

_DATAGRAM: Final = 16_384
"""Maximum size of a datagram in bytes (the kernel copies it as a whole)."""
_PENDING: Final = 2000
"""Maximum number of notices waiting for one worker; more are replaced by `Everything`."""
_RETRY_FIRST: Final = 0.02
_RETRY_MOST: Final = 1.0
_LONG_PATH: Final = 100
"""Bytes. A longer socket path is accessed through /proc (the kernel's limit is 107)."""
_EVERYTHING: Final = Everything()
_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Notice)


class Listener:
    """A worker's notice socket. `on_notice` is called on the loop with each notice."""

    def __init__(
        self,
        data_dir: Path | str,
        slot: int,
        loop: asyncio.AbstractEventLoop,
        on_notice: Callable[[Notice], None],
    ) -> None:
        self._loop = loop
        self._on_notice = on_notice
        self._full = _queue_length()
        run = Path(data_dir) / "run"
        run.mkdir(mode=0o700, exist_ok=True)
        self._path = _path(run, slot)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            fresh = self._path.with_suffix(".new")
            fresh.unlink(missing_ok=True)
            with _short(fresh) as short:
                self._socket.bind(short)
            fresh.chmod(0o600)
            self._inode = fresh.stat().st_ino
            # The socket is renamed into place, so that a sender always finds the old or the new one.
            fresh.rename(self._path)
        except BaseException:
            self._socket.close()
            raise
        loop.add_reader(self._socket, self._readable)

    def close(self) -> None:
        """Stop listening. A second call does nothing."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket)
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    async def aclose(self) -> None:
        """`close`, for an AsyncExitStack."""
        self.close()

    def _readable(self) -> None:
        notices: dict[Notice, None] = {}
        count = 0
        try:
            # Bounded, so that continuous senders do not block the loop; the rest makes the socket readable again.
            while count <= self._full:
                notices.update(dict.fromkeys(_decode(self._socket.recv(_DATAGRAM + 1))))
                count += 1
        except BlockingIOError:
            pass  # all datagrams were read
        if count > self._full or _EVERYTHING in notices:
            notices = {_EVERYTHING: None}
        for notice in notices:
            self._on_notice(notice)


def listen(
    data_dir: Path | str, slot: int, loop: asyncio.AbstractEventLoop, on_notice: Callable[[Notice], None]
) -> Listener:
    """Listen as worker `slot`; replaces the previous listener of that slot."""
    return Listener(data_dir, slot, loop, on_notice)


class Notifier:
    """Sends a worker's notices. It is called thousands of times a second, so it batches them per loop iteration."""

    def __init__(self, data_dir: Path | str, loop: asyncio.AbstractEventLoop) -> None:
        self._run = Path(data_dir) / "run"
        self._loop = loop
        self._pending: dict[int, dict[Notice, None]] = {}
        self._stuck: dict[int, float] = {}
        """Pause in seconds before the next attempt, by worker."""
        self._scheduled = False
        self._socket = _sender()
        self.dropped = 0
        """Notices that were replaced by an `Everything` (for tests and diagnostics)."""

    def notify(self, notice: Notice, slot: int) -> None:
        """Notify worker `slot`. Never waits, never fails."""
        pending = self._pending.get(slot)
        if pending is None:
            pending = self._pending[slot] = {}
        if _EVERYTHING in pending:
            return
        if notice == _EVERYTHING or len(pending) >= _PENDING:
            self.dropped += len(pending)
            pending.clear()
            notice = _EVERYTHING
        pending[notice] = None
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Try once to send the waiting notices, then close."""
        self._flush()
        self._pending.clear()
        self._socket.close()

    def _flush(self) -> None:
        self._scheduled = False
        if self._socket.fileno() < 0:
            return
        for slot in list(self._pending):
            if slot not in self._stuck:
                self._send(slot)

    def _send(self, slot: int) -> None:
        pending = self._pending.pop(slot, {})
        try:
            for datagram in _encode(pending):
                _send(self._socket, _path(self._run, slot), datagram)
        except BlockingIOError:
            self.dropped += len(pending)
            self._pending[slot] = {_EVERYTHING: None}
            pause = self._stuck.get(slot, _RETRY_FIRST / 2) * 2
            self._stuck[slot] = min(pause, _RETRY_MOST)
            self._loop.call_later(self._stuck[slot], self._retry, slot)
        else:
            self._stuck.pop(slot, None)

    def _retry(self, slot: int) -> None:
        if self._socket.fileno() >= 0:
            self._send(slot)


def notify(data_dir: Path | str, notice: Notice = _EVERYTHING, slot: int | None = None) -> int:
    """Notify one worker or all, from a process that exits soon. Returns how many got it; none is not an error."""
    run = Path(data_dir) / "run"
    paths = _listening(run) if slot is None else [_path(run, slot)]
    told = 0
    for path in paths:
        # Each worker gets a separate socket, because unread datagrams count against the sender's buffer.
        with _sender() as sender:
            try:
                told += _send(sender, path, _encoder.encode(notice))
            except BlockingIOError:
                told += 1  # the worker's buffer is full, which it treats as `Everything`
    return told


def clear(data_dir: Path | str) -> None:
    """Remove sockets that dead workers left. Only for the holder of the data folder's lock, before workers start."""
    for path in _listening(Path(data_dir) / "run"):
        path.unlink(missing_ok=True)


def _listening(run: Path) -> list[Path]:
    try:
        return sorted(path for path in run.iterdir() if path.name.startswith("worker-") and path.suffix == ".sock")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _path(run: Path, slot: int) -> Path:
    return run / f"worker-{slot}.sock"


def _sender() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


def _send(sender: socket.socket, path: Path, datagram: bytes) -> bool:
    """Whether a listener got it. A socket without a listener is kept, because its worker may be replacing it now."""
    try:
        with _short(path) as short:
            sender.sendto(datagram, short)
    except (FileNotFoundError, ConnectionRefusedError, PermissionError, NotADirectoryError):
        return False
    return True


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """Return the path, or if it is too long, a short one through an open descriptor of its folder."""
    text = str(path)
    if len(os.fsencode(text)) <= _LONG_PATH:
        yield text
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _encode(notices: Iterable[Notice]) -> Iterable[bytes]:
    """Encode notices as datagrams, one notice per line."""
    lines: list[bytes] = []
    size = 0
    for notice in notices:
        line = _encoder.encode(notice)
        if size + len(line) + 1 > _DATAGRAM and lines:
            yield b"\n".join(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line) + 1
    if lines:
        yield b"\n".join(lines)


def _decode(datagram: bytes) -> list[Notice]:
    """Decode the notices. Unknown ones (from a newer sender, or truncated) count as `Everything`."""
    if len(datagram) > _DATAGRAM:
        return [_EVERYTHING]
    try:
        return [_decoder.decode(line) for line in datagram.split(b"\n")]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [_EVERYTHING]


def _queue_length() -> int:
    """Return how many datagrams the kernel keeps for a socket (it refuses more than this)."""
    try:
        return int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 10  # the kernel's default
