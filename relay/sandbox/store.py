"""Messages that the sandbox received: `ID.eml` (the message) and `ID.json` (the envelope); the newest 10,000 are kept.

The envelope is renamed into place last, so every listed message is complete. Nothing is fsynced: the files are only for
inspection, and the relay's responsibility ends with the receiver's 250. One process writes; any may read or clear.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from relay_queue.ids import is_id, new_id

KEPT = 10_000
"""Maximum number of messages; the oldest are removed first."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """Envelope of a message, and facts about its receipt."""

    id: str
    """Name of the file, assigned by the sandbox; ids sort by time of receipt."""
    received_at: float
    """Seconds since the epoch."""
    sender: str
    """Reverse-path; empty for `<>`."""
    recipients: tuple[str, ...]
    size: int
    """Size of the message in bytes."""
    helo: str = ""
    tls: str | None = None
    """Protocol and cipher of the relay's connection, None without TLS."""
    smtputf8: bool = False
    subject: str = ""
    """The Subject field as it arrived, unfolded, not decoded."""
    queue_id: str = ""
    """The relay's queue id of the message, as in its 250 reply; empty if unknown."""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


class SandboxStore:
    """The folder `data_dir/sandbox`."""

    def __init__(self, folder: Path, *, keep: int = KEPT) -> None:
        self._folder = folder
        self._keep = keep
        self._ids: deque[str] | None = None
        """Ids in order, loaded when the first message is added; readers do not need the list."""

    def prepare(self) -> None:
        """Create the folder, and remove the partial files of a killed receiver."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in (*self._folder.glob(".new-*"), *self._folder.glob("*.part")):
            leftover.unlink(missing_ok=True)

    def new_file(self) -> BinaryIO:
        """Open a temporary file for a large message that is still arriving."""
        path = self._folder / f".new-{new_id()}"
        return open(path, "x+b", opener=_private)

    def discard_file(self, file: BinaryIO) -> None:
        """Close and remove a file of `new_file`."""
        file.close()
        Path(file.name).unlink(missing_ok=True)

    def add(self, envelope: Envelope, blocks: Iterable[bytes]) -> None:
        """Store a message; the oldest messages beyond the maximum are removed."""
        if self._ids is None:
            self._ids = deque(sorted(self._stored()))
        self._write(self._path(envelope.id, "eml"), blocks)
        self._write(self._path(envelope.id, "json"), (msgspec.json.encode(envelope),))
        self._ids.append(envelope.id)
        while len(self._ids) > self._keep:
            self._remove(self._ids.popleft())

    def envelopes(self, limit: int | None = None) -> Iterator[Envelope]:
        """Yield the envelopes, newest first. Files that are not envelopes are skipped, as they may be foreign."""
        shown = 0
        for message_id in sorted(self._stored(), reverse=True):
            if limit is not None and shown >= limit:
                return
            envelope = self.envelope(message_id)
            if envelope is not None:
                shown += 1
                yield envelope

    def envelope(self, message_id: str) -> Envelope | None:
        """Return a message's envelope, or None if it does not exist (any more)."""
        if not is_id(message_id):
            return None
        try:
            return msgspec.json.decode(self._path(message_id, "json").read_bytes(), type=Envelope)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def of_queue_id(self, queue_id: str) -> list[Envelope]:
        """Return the envelopes with this queue id, newest first. Several transactions may deliver one message."""
        return [envelope for envelope in self.envelopes() if envelope.queue_id == queue_id] if queue_id else []

    def content(self, message_id: str) -> bytes | None:
        """Return a message's bytes, or None if it does not exist (any more)."""
        if not is_id(message_id):
            return None
        try:
            return self._path(message_id, "eml").read_bytes()
        except FileNotFoundError:
            return None

    def clear(self) -> int:
        """Remove all messages; returns how many."""
        gone = 0
        for message_id in list(self._stored()):
            self._remove(message_id)
            gone += 1
        return gone

    def _stored(self) -> Iterator[str]:
        try:
            entries = os.scandir(self._folder)
        except FileNotFoundError:
            return
        with entries:
            for entry in entries:
                stem, dot, suffix = entry.name.partition(".")
                if dot and suffix == "json" and is_id(stem):
                    yield stem

    def _write(self, path: Path, blocks: Iterable[bytes]) -> None:
        part = path.with_name(path.name + ".part")
        try:
            with open(part, "xb", opener=_private) as file:
                file.writelines(blocks)
            part.rename(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise

    def _remove(self, message_id: str) -> None:
        # Remove the envelope first, so that every listed message is complete.
        self._path(message_id, "json").unlink(missing_ok=True)
        self._path(message_id, "eml").unlink(missing_ok=True)

    def _path(self, message_id: str, suffix: str) -> Path:
        return self._folder / f"{message_id}.{suffix}"
