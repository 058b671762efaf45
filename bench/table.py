"""What was measured, as a table for people and as JSON."""

import datetime as dt
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import postfix
from bench.folder import filesystem, sync_milliseconds
from bench.words import Row

_HEADERS = ("benchmark", "what", "unit", "relay", "compared with", "ratio", "must", "")


def table(rows: Sequence[Row]) -> str:
    """The rows, medians with (least-most)."""
    cells = [_HEADERS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADERS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    lines.insert(1, "-" * max(map(len, lines)))
    notes = dict.fromkeys(f"{row.name}: {row.note}" for row in rows if row.note)
    return "\n".join([*lines, *notes])


def markdown(rows: Sequence[Row]) -> str:
    """The rows as docs/performance.md has them."""
    lines = [_HEADERS, ("---",) * len(_HEADERS), *(_cells(row) for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cells(row: Row) -> tuple[str, ...]:
    ratio, met = row.ratio, row.met
    other = f"{row.other_is}: {_spread(row.other)}" if row.other else "-"
    verdict = "" if met is None else "met" if met else "MISSED"
    target = "" if row.target is None else str(row.target)
    return (row.name, row.what, row.unit, _spread(row.ours), other, f"{ratio:.2f}x" if ratio else "", target, verdict)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    if len(values) == 1:
        return _number(values[0])
    return f"{_number(statistics.median(values))} ({_number(min(values))}-{_number(max(values))})"


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def write_json(path: Path, rows: Sequence[Row], folder: Path, options: dict[str, Any]) -> None:
    """All values, with what is needed to judge them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(
        {"machine": machine(folder), "options": options, "rows": [_record(row) for row in rows]}, indent=1
    )
    path.write_text(text + "\n")


def machine(folder: Path) -> dict[str, Any]:
    """Where and when it was measured, and what."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "cpus": len(os.sched_getaffinity(0)),
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 30} GiB",
        "kernel": platform.release(),
        "filesystem": filesystem(folder),
        "sync": f"{sync_milliseconds(folder):.2f} ms",
        "python": platform.python_version(),
        "postfix": postfix.version(),
        "commit": _commit(),
        "load average": os.getloadavg(),
    }


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    return done.stdout.strip()


def _record(row: Row) -> dict[str, Any]:
    sides = {"relay": row.ours, row.other_is: row.other}
    return {
        "name": row.name,
        "what": row.what,
        "unit": row.unit,
        "values": {side: values for side, values in sides.items() if values},
        "medians": {side: statistics.median(values) for side, values in sides.items() if values},
        "ratio": row.ratio,
        "must": None if row.target is None else str(row.target),
        "met": row.met,
        "note": row.note,
    }
