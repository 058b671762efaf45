"""Run rows of the fault table: `python -m tests.faults [ROW[=ROUNDS]…] [--jobs N] [--minutes M]`.

The table is written to a file after each segment, so that a campaign that is broken off keeps its figures.
"""

import argparse
import os
import sys
from pathlib import Path

from tests.faults.rows import ROWS
from tests.faults.schedule import Progress, Schedule, table


def main() -> int:
    options = _options()
    campaign = options.campaign
    options.table.parent.mkdir(parents=True, exist_ok=True)

    def changed(progress: Progress, told: list[str]) -> None:
        fresh = options.table.with_name(f"{options.table.name}.new")
        fresh.write_text(table(campaign))
        fresh.replace(options.table)
        score = progress.score
        state = progress.skipped or progress.broke or f"{score.acknowledged:,} acknowledged, {len(score.lost)} lost"
        _say(f"{progress.row.name}: {progress.done} of {progress.rounds} rounds, {state}")
        for each in told:
            _say(f"  {each}")

    schedule = Schedule(campaign, jobs=options.jobs, seed=options.seed, minutes=options.minutes)
    try:
        schedule.run(changed)
    except KeyboardInterrupt:
        _say("broken off")
        return 130
    finally:
        _say(f"\n{table(campaign)}\n{options.table} has this table.")
    return 0 if all(each.clean for each in campaign) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW[=ROUNDS]", help=f"default: all; {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=int, help="rounds of each row that names none; each row has its own default")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="segments side by side (processors)")
    parser.add_argument("--minutes", type=float, default=90.0, help="for everything together (90)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", type=Path, default=Path("build/faults.md"), help="where the table goes")
    options = parser.parse_args()
    campaign = []
    for each in options.rows or ROWS:
        name, _, rounds = each.partition("=")
        if name not in ROWS:
            parser.error(f"no such row: {name}")
        if rounds and not rounds.isdecimal():
            parser.error(f"not a number of rounds: {each}")
        campaign.append(Progress(ROWS[name], int(rounds or options.rounds or ROWS[name].rounds)))
    options.campaign = campaign
    return options


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
