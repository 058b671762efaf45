"""What a server's processes cost, read from /proc: CPU and memory of a process and all that descend from it.

CPU of a child that ended is counted by the kernel to its parent when the parent waits for it, so nothing is lost as
long as the top process lives.
"""

import os
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def _stat(pid: str) -> list[str] | None:
    """The fields of /proc/PID/stat after the command's name (which may hold blanks), from `state` on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split(" ")


def descent(root: int) -> dict[int, list[str]]:
    """Process id -> stat fields of the process and its living descendants."""
    stats = {int(path.name): _stat(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()}
    children: dict[int, list[int]] = {}
    for pid, fields in stats.items():
        if fields is not None:
            children.setdefault(int(fields[1]), []).append(pid)
    found: dict[int, list[str]] = {}
    todo = [root]
    while todo:
        pid = todo.pop()
        fields = stats.get(pid)
        if fields is not None:
            found[pid] = fields
            todo += children.get(pid, [])
    return found


def cpu_seconds(*roots: int) -> float:
    """User and system time of the processes, their descendants, and those of them that ended."""
    return sum(sum(map(int, fields[11:15])) for root in roots for fields in descent(root).values()) / _TICK


def resident(*roots: int) -> int:
    """Octets of resident memory, summed over processes: pages that several share count for each of them."""
    return sum(int(fields[21]) * _PAGE for root in roots for fields in descent(root).values())


def proportional(*roots: int) -> int:
    """As `resident`, but a shared page counts once (PSS)."""
    total = 0
    for root in roots:
        for pid in descent(root):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total
