"""Run rows of the fault table: `python -m tests.faults [ROW…] [--rounds N] [--minutes M] [--seed S]`."""

import argparse
import asyncio
import sys
import time
import traceback

from tests.faults.campaign import HEAD, CannotError, line, perform
from tests.faults.rows import ROWS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"default: all; {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=int, help="faults of each row; each has its own default")
    parser.add_argument("--minutes", type=float, default=60.0, help="for everything together (60)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if unknown := [name for name in options.rows if name not in ROWS]:
        parser.error(f"no such row: {', '.join(unknown)}")
    rows = [ROWS[name] for name in options.rows or ROWS]
    end = time.monotonic() + options.minutes * 60
    table, clean = [HEAD], True
    for n, one in enumerate(rows):
        share = time.monotonic() + (end - time.monotonic()) / (len(rows) - n)
        _say(f"{one.name}: {one.text}")
        try:
            score = asyncio.run(perform(one, options.rounds or one.rounds, options.seed, share, _say))
        except CannotError as error:
            table.append(f"| {one.text} | skipped: {error} | | | | | |")
            continue
        except Exception as error:  # noqa: BLE001 -- one row that breaks off must not take the others' results along
            traceback.print_exc()
            table.append(f"| {one.text} | broke off: {type(error).__name__} | | | | | |")
            clean = False
            continue
        clean = clean and score.clean
        table.append(line(one, score))
    _say("\n".join(table))
    return 0 if clean else 1


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
