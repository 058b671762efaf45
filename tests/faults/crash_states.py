"""Crash states: every state that a disk may be in while mail is accepted, opened as a queue.

The calls of a process that puts messages are recorded (strace). Then, for each prefix of them, states of the folder are
built as a crash could leave them: all octets there; only what was synced; and, between these, some of what was not
synced at random. Each is opened: that must work, and all mail acknowledged by then must be there, whole.
"""

import random
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from relay_queue.model import Selection
from relay_queue.protocol import QueueError
from relay_queue.sqlite import open_admin, open_queue
from tests.faults.campaign import CannotError, row
from tests.support import queue_load
from tests.support.ledger import Score
from tests.support.traced import NoTraceError, checked

_MEMORY = Path("/dev/shm")
"""A thousand small folders whose syncs nobody needs."""
_TRACE = "openat,write,pwrite64,writev,fsync,fdatasync,rename,unlink,mkdir,ftruncate,close"
_LINE = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$")
_UNFINISHED = re.compile(r"^(\d+) +(.*) <unfinished \.\.\.>$")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass(slots=True)
class Step:
    """One call that changes the disk, or one acknowledgement."""

    kind: str
    """write, cut, sync, name, unname, folder, told."""
    path: str = ""
    other: str = ""
    offset: int = 0
    octets: bytes = b""
    node: int = 0
    """Which file it is about, whatever its name is by then."""


@dataclass(slots=True)
class Disk:
    """Files by node, and names of nodes, as they would be found."""

    files: dict[int, bytearray] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)

    def do(self, step: Step) -> None:
        match step.kind:
            case "write":
                octets = self.files.setdefault(step.node, bytearray())
                octets.extend(b"\0" * (step.offset + len(step.octets) - len(octets)))
                octets[step.offset : step.offset + len(step.octets)] = step.octets
            case "cut":
                octets = self.files.setdefault(step.node, bytearray())
                octets.extend(b"\0" * (step.offset - len(octets)))
                del octets[step.offset :]
            case "name":
                if step.other:
                    self.names.pop(step.other, None)
                self.names[step.path] = step.node
            case "unname":
                self.names.pop(step.path, None)
            case "folder":
                self.folders.add(step.path)

    def lay(self, base: Path, target: Path) -> None:
        """Write it out; `base` holds the files that were there before."""
        for folder in sorted(self.folders):
            (target / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, node in self.names.items():
            path = target / name
            if not path.parent.is_dir():
                continue  # the folder itself did not get there
            path.write_bytes(self.files.get(node, b""))
            path.chmod(0o600)


@row("crash states of some accepts: every prefix, with lost and reordered writes", rounds=1500, segment=1500)
async def crash_states(folder: Path, rounds: int, seed: int) -> Score:
    if not _MEMORY.is_dir():  # noqa: ASYNC240 -- nothing else runs in this loop
        return await _states(folder, rounds, seed)
    with tempfile.TemporaryDirectory(dir=_MEMORY, prefix="crash-states-") as fast:
        return await _states(Path(fast), rounds, seed)


async def _states(folder: Path, rounds: int, seed: int) -> Score:
    base = folder / "base"
    queue = open_queue(base)
    await queue.recover_node("local")
    await queue.aclose()
    steps = _record(base, folder)
    chance = random.Random(seed)
    # Each prefix counts; the share of what was not synced that gets there varies.
    cuts = [n for n in range(len(steps) + 1) if n == len(steps) or steps[n].kind != "sync"]
    score = Score()
    for n in range(rounds):
        cut = cuts[n % len(cuts)] if rounds >= len(cuts) else chance.choice(cuts)
        part = (1.0, 0.0, 0.5, 0.2, 0.8)[(n // len(cuts)) % 5 if rounds >= len(cuts) else n % 5]
        await _check(base, folder / "state", steps[:cut], part, chance, score)
        score.faults += 1
    score.acknowledged = sum(step.kind == "told" for step in steps)
    score.notes.append(f"{len(steps)} steps")
    return score


async def _check(base: Path, state: Path, steps: list[Step], part: float, chance: random.Random, score: Score) -> None:
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(mode=0o700)  # noqa: ASYNC240 -- as above
    _crashed(base, steps, part, chance).lay(base, state)
    told = {step.path for step in steps if step.kind == "told"}
    try:
        queue = open_queue(state)
        await queue.recover_node("local")
        await queue.aclose()
        admin = open_admin(state)
    except QueueError as error:
        score.wrong.append(f"after {len(steps)} steps, {part:.0%} of the rest: cannot be opened: {error}")
        return
    try:
        there = {entry.message.id for entry in admin.select(Selection(), limit=None)}
        for message_id in told & there:
            # Reads all of it, and checks its sum.
            if not b"".join(admin.body(message_id)).startswith(b"Subject: x\r\n\r\n" + message_id.encode()):
                score.wrong.append(f"{message_id} is not what was put")
        there |= {ended.message_id for ended in admin.ended(limit=100_000)}
        score.lost += [f"{message_id} after {len(steps)} steps, {part:.0%} of the rest" for message_id in told - there]
    except QueueError as error:
        score.wrong.append(f"after {len(steps)} steps, {part:.0%} of the rest: {error}")
    finally:
        admin.close()


def _crashed(base: Path, steps: list[Step], part: float, chance: random.Random) -> Disk:
    """What a crash after `steps` may leave: all that was synced, and `part` of what was not."""
    disk = Disk()
    _load(base, disk)
    for n, step in enumerate(steps):
        if _synced(step, steps[n + 1 :]) or chance.random() < part:
            disk.do(step)
    return disk


def _synced(step: Step, later: list[Step]) -> bool:
    """Octets are safe once their file is synced, names and folders once the folder they are in is."""
    for each in later:
        if each.kind != "sync":
            continue
        if step.kind in {"write", "cut"} and each.node and each.node == step.node:
            return True
        if step.kind in {"name", "unname", "folder"} and each.path == str(Path(step.path).parent):
            return True
    return False


def _load(base: Path, disk: Disk) -> None:
    for path in base.rglob("*"):
        name = str(path.relative_to(base))
        if path.is_dir():
            disk.folders.add(name)
        elif not name.endswith("-shm"):
            node = -len(disk.names) - 1
            disk.names[name] = node
            disk.files[node] = bytearray(path.read_bytes())


def _record(base: Path, folder: Path) -> list[Step]:
    """Run the load on a copy and note its steps."""
    copy, log = folder / "data", folder / "steps.trace"
    shutil.copytree(base, copy)
    command = ["strace", "-f", "-o", str(log), "-xx", "-s", "10000000", "-e", f"trace={_TRACE}"]
    try:
        checked()
    except NoTraceError as error:
        raise CannotError(str(error)) from error
    done = subprocess.run(
        [*command, sys.executable, queue_load.__file__, str(copy), "0", "24"], capture_output=True, check=False
    )
    if done.returncode != 0:
        raise CannotError(f"strace: {done.stderr.decode()[-200:]}")
    return Reader(base, copy).read(log.read_text())


class Reader:
    """Turns strace's lines into steps."""

    def __init__(self, base: Path, root: Path) -> None:
        self._root = f"{root}/"
        self._open: dict[int, tuple[str, int, list[int]]] = {}
        """By descriptor: path, node and position."""
        self._steps: list[Step] = []
        self._nodes: dict[str, int] = {}
        known = Disk()
        _load(base, known)
        self._nodes = known.names
        self._sizes = {node: len(octets) for node, octets in known.files.items()}
        self._last = 0

    def read(self, text: str) -> list[Step]:
        begun: dict[str, str] = {}
        for line in text.splitlines():
            whole = line
            if match := _UNFINISHED.match(line):
                begun[match[1]] = f"{match[1]} {match[2]}"
                continue
            if match := _RESUMED.match(line):
                whole = begun.pop(match[1]) + match[2]
            if match := _LINE.match(whole):
                self._call(match[1], match[2], int(match[3]))
        return self._steps

    def _call(self, name: str, arguments: str, result: int) -> None:
        if result < 0:
            return
        strings = [bytes.fromhex(each.replace("\\x", "")) for each in _STRING.findall(arguments)]
        first = arguments.partition(",")[0].strip()
        match name:
            case "openat":
                self._opened(strings[0].decode(), arguments, result)
            case "mkdir" if (path := self._inside(strings[0])) is not None:
                self._steps.append(Step("folder", path))
            case "rename" if (path := self._inside(strings[1])) is not None:
                source = self._inside(strings[0])
                assert source is not None
                self._nodes[path] = self._nodes.pop(source)
                self._steps.append(Step("name", path, source, node=self._nodes[path]))
            case "unlink" if (path := self._inside(strings[0])) is not None:
                self._nodes.pop(path, None)
                self._steps.append(Step("unname", path))
            case "write" if first == "1":
                for line in strings[0].decode().splitlines():
                    if line.startswith("put "):
                        self._steps.append(Step("told", line.split()[1]))
            case "close":
                self._open.pop(int(first), None)
            case _ if first.isdigit() and int(first) in self._open:
                self._on_file(name, int(first), arguments, strings, result)

    def _on_file(self, name: str, descriptor: int, arguments: str, strings: list[bytes], result: int) -> None:
        path, node, position = self._open[descriptor]
        if path.endswith(("-shm", ".lock")):
            return
        match name:
            case "write":
                self._write(path, node, position[0], strings[0][:result])
                position[0] += result
            case "pwrite64":
                self._write(path, node, int(arguments.rpartition(",")[2]), strings[0][:result])
            case "ftruncate":
                self._steps.append(Step("cut", path, offset=int(arguments.rpartition(",")[2]), node=node))
            case "fsync" | "fdatasync":
                self._steps.append(Step("sync", path, node=node))
            case _:
                raise AssertionError(f"a call that is not modelled: {name}({arguments[:80]}")

    def _write(self, path: str, node: int, offset: int, octets: bytes) -> None:
        self._sizes[node] = max(self._sizes.get(node, 0), offset + len(octets))
        self._steps.append(Step("write", path, offset=offset, octets=octets, node=node))

    def _opened(self, text: str, arguments: str, descriptor: int) -> None:
        path = self._inside(text.encode())
        if path is None:
            self._open.pop(descriptor, None)
            return
        if "O_DIRECTORY" in arguments:
            self._open[descriptor] = (path, 0, [0])
            return
        if path not in self._nodes and "O_CREAT" in arguments:
            self._last += 1
            self._nodes[path] = self._last
            if not path.endswith("-shm"):
                self._steps.append(Step("name", path, node=self._last))
        node = self._nodes.get(path, 0)
        self._open[descriptor] = (path, node, [self._sizes.get(node, 0) if "O_APPEND" in arguments else 0])

    def _inside(self, path: bytes) -> str | None:
        text = path.decode()
        if text == self._root.rstrip("/"):
            return "."
        return text.removeprefix(self._root) if text.startswith(self._root) else None
