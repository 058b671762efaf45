"""`python -m bench [NAME…]`: runs benchmarks, prints a table, writes bench/results/*.json and *.md."""

import argparse
import sys
import time
from pathlib import Path

from bench.catalog import BENCHMARKS, Context
from bench.folder import checked_out, working_folder
from bench.ours import use_source
from bench.processes import many_files
from bench.runs import Plan
from bench.table import machine, markdown, table, write_json
from bench.words import BenchError, Row, SkipError

_RESULTS = Path(__file__).parent / "results"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--runs", type=int, default=5, help="runs of each server, in turn (default: 5)")
    parser.add_argument("--seconds", type=float, default=8, help="about how long a run takes (default: 8)")
    parser.add_argument("--messages", type=int, default=0, help="messages of a run, instead of --seconds")
    parser.add_argument("--sessions", type=int, default=0, help="connections of the load generator (default: 20)")
    parser.add_argument("--depth", type=int, default=1_000_000, help="recipients in a deep queue (default: 1000000)")
    parser.add_argument("--folder", type=Path, help="where to work: a folder on a disk (default: the temporary one)")
    parser.add_argument("--revision", help="run the relay as of this git revision, rather than the working tree's")
    parser.add_argument("--keep", action="store_true", help="leave settings, queues and logs behind")
    parser.add_argument("--alone", action="store_true", help="without Postfix")
    parser.add_argument("--json", type=Path, help="where the result goes (default: bench/results/)")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    return options


def main() -> int:
    """Returns the exit status: 1 if a benchmark could not be run to its end."""
    options = _options()
    many_files()
    plan = Plan(options.runs, options.seconds, options.messages, options.sessions, options.depth)
    rows: list[Row] = []
    failed = False
    with working_folder(options.folder, keep=options.keep) as folder:
        print(" ".join(f"{name}={value}" for name, value in machine(folder).items()))
        if options.revision:
            use_source(checked_out(options.revision, folder))
        for name in options.names or BENCHMARKS:
            print(f"{name}:", flush=True)
            (folder / name).mkdir(mode=0o755)
            try:
                rows += BENCHMARKS[name](name, Context(folder / name, plan, options.alone))
            except SkipError as error:
                print(f"  skipped: {error}")
            except BenchError as error:
                print(f"  failed: {error}")
                failed = True
        print("\n" + table(rows))
        path = options.json or _RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
        write_json(path, rows, folder, {name: str(value) for name, value in vars(options).items()})
        path.with_suffix(".md").write_text(markdown(rows))
    print(f"\nwritten: {path}, and the table beside it (.md)")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
