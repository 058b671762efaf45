"""Output of commands: tables for people, JSON lines for programs, formatted times and sizes.

Text from outside (addresses, remote replies, subjects) must pass `printable` before it reaches a terminal, because it
may contain escape sequences. Listings go to stdout, remarks to stderr, so that a pipe carries only data.
"""

import codecs
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from relay.cli.exits import NothingMatchedError

T = TypeVar("T")

PROSE = frozenset({"WHY", "REASON", "SUBJECT", "TEXT"})
"""Last columns that contain sentences."""

raw_option = click.option("--raw", is_flag=True, help="Do not escape control characters in a terminal.")

json_option = click.option("--json", "as_json", is_flag=True, help="JSON lines for programs.")


def printable(text: str) -> str:
    """Return the text with terminal control characters and line breaks as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def emit_octets(blocks: Iterable[bytes], *, raw: bool) -> None:
    """Write a message byte by byte; in a terminal, control characters are escaped (unless `raw`)."""
    output = sys.stdout.buffer
    if raw or not in_terminal():
        for block in blocks:
            output.write(block)
    else:
        # Invalid UTF-8 is escaped as well, because a terminal may take 0x9b for the start of an escape sequence.
        decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        held = ""
        for block in itertools.chain(filter(None, blocks), [b""]):
            text = held + decoder.decode(block, final=not block)
            # A line end may be split between two blocks.
            held = "\r" if text.endswith("\r") and block else ""
            lines = text.removesuffix(held).replace("\r\n", "\n").split("\n")
            output.write("\n".join(map(_escaped, lines)).encode("utf-8"))
    output.flush()


def _escaped(line: str) -> str:
    """Like `printable`, but keeps tabs."""
    return line if line.isprintable() else "\t".join(map(printable, line.split("\t")))


def emit_json(record: dict[str, Any]) -> None:
    """Write one JSON object as a line. ASCII only, so that it is safe for every terminal and pipe."""
    # DEL is the only control character that JSON does not escape.
    click.echo(json.dumps(record, separators=(",", ":")).replace("\x7f", "\\u007f"))


def in_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def emit_table(
    headers: Sequence[str], rows: Iterable[Sequence[object]], *, right: frozenset[int] = frozenset()
) -> None:
    """Write a table: drawn by rich in a terminal, otherwise as aligned plain text. `right`: right-aligned columns."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    if in_terminal():
        _draw(headers, cells, right)
    else:
        click.echo("\n".join(_aligned([list(headers), *cells], right)))


def _aligned(lines: Sequence[Sequence[str]], right: frozenset[int]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _draw(headers: Sequence[str], cells: Sequence[Sequence[str]], right: frozenset[int]) -> None:
    """Draw a table in a terminal. If it is too narrow, sentences go below their lines; ids are never wrapped."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    lines = _aligned([headers, *cells], right)
    below = max(map(len, lines)) > console.width and headers[-1] in PROSE
    if below:
        lines = _aligned([headers[:-1], *(line[:-1] for line in cells)], right)
    console.print(Text(lines[0], style="bold"), soft_wrap=True)
    for line, row in zip(lines[1:], cells, strict=True):
        # Text, so that rich does not interpret an address like a[b]@c as markup.
        console.print(Text(line), soft_wrap=True)
        if below and row[-1]:
            console.print(Padding(Text(row[-1], style="dim"), (0, 0, 0, 2)))


def emit_listing(
    records: Iterable[T],
    *,
    as_json: bool,
    headers: Sequence[str],
    row: Callable[[T], Sequence[object]],
    record: Callable[[T], dict[str, Any]],
    nothing: str,
    right: frozenset[int] = frozenset(),
) -> None:
    """Write a listing. If there are no records, print the sentence `nothing` on stderr and exit with 3."""
    if as_json:
        empty = True
        for item in records:
            empty = False
            emit_json(record(item))
        if empty:
            raise NothingMatchedError(nothing)
        return
    rows = [row(item) for item in records]
    if not rows:
        raise NothingMatchedError(nothing)
    emit_table(headers, rows, right=right)


def remark(text: str) -> None:
    """Print a sentence on stderr, so that it does not mix with the data in a pipe."""
    click.echo(printable(text), err=True)


def remark_lines(text: str) -> None:
    """Like `remark`, for a text of several lines."""
    for line in text.split("\n"):
        remark(line)


def clock_time(at: float) -> str:
    """Local date and time to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def iso_time(at: float | None) -> str | None:
    """RFC 3339 in UTC with milliseconds, for programs."""
    if at is None:
        return None
    whole, fraction = divmod(round(at * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{fraction:03d}Z"


_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def span(seconds: float) -> str:
    """Format a duration in its two largest units: `2 d 3 h`, `4 min 10 s`, `0 s`."""
    rest = max(0, round(seconds))
    parts: list[str] = []
    for size, unit in _UNITS:
        amount, rest = divmod(rest, size)
        if amount:
            parts.append(f"{amount} {unit}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts) or "0 s"


def octets(size: int) -> str:
    """Format a size in bytes in the largest binary unit with a digit before the point: `812 B`, `4.0 KiB`."""
    if size < 1024:
        return f"{size} B"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024 or unit == "GiB":
            return f"{amount:.1f} {unit}"
    raise AssertionError("the loop returns at its last unit")


def count(n: int, noun: str) -> str:
    """`1 message`, `2 messages`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
