"""Where the relay's CPU goes under load: `make profile`.

    python -m bench.profiling [--load relayed-kept] [--seconds 15] [--workers 1] [--native] [--gil] [--top 40]

py-spy looks at the worker from outside, so the relay runs as it always does. It is not one of the project's packages:
`make bench-deps` puts it into an environment of its own. Shares are of samples in which a thread ran.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bench import tree
from bench.catalog import RELAYED
from bench.folder import checked_out, working_folder
from bench.keys import make_secrets
from bench.ours import Relay, RelayOptions, the_route, use_source
from bench.processes import free_port
from bench.runs import run_once
from bench.traffic import Load, sink
from bench.words import BenchError

_PY_SPY = Path(__file__).parents[1] / "build/profile-venv/bin/py-spy"
_HERTZ = 100
_OUTER = ("Runner.run (", "Thread.run (", "_worker (concurrent", "Supervisor._start (", "Worker._main (")
"""Frames that say no more than in which thread something ran."""


@dataclass(slots=True)
class Shares:
    """Samples by function: where a thread was (`own`), and what it was somewhere inside of (`whole`)."""

    own: Counter[str] = field(default_factory=Counter)
    whole: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)
    threads: Counter[str] = field(default_factory=Counter)
    samples: int = 0

    def add(self, stack: list[str], count: int) -> None:
        """One line of py-spy's "raw" form: frames from the outermost in, and how often they were seen."""
        thread, frames = stack[0], stack[1:] or stack
        self.samples += count
        self.threads[thread.partition("): ")[2] or "other threads"] += count
        inner = max((number for number, frame in enumerate(frames) if frame.startswith(_OUTER)), default=-1)
        frames = frames[inner + 1 :] or frames[-1:]
        self.own[frames[-1]] += count
        self.files[frames[-1].partition("(")[2].rpartition(":")[0].rstrip(")") or frames[-1]] += count
        for frame in set(frames):
            self.whole[frame] += count


def main() -> int:
    """Returns the exit status."""
    options = _options()
    try:
        with working_folder(options.folder, keep=False) as folder:
            if options.revision:
                use_source(checked_out(options.revision, folder))
            _profile(folder, options)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.profiling", description=__doc__.partition("\n")[0])
    parser.add_argument("--load", choices=sorted(RELAYED), default="relayed-kept")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--native", action="store_true", help="C functions too: SQLite, uvloop, OpenSSL")
    parser.add_argument("--gil", action="store_true", help="only what holds the interpreter's lock")
    parser.add_argument("--top", type=int, default=40)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--revision", help="the relay as of this git revision")
    parser.add_argument("--raw", type=Path, help="keep py-spy's stacks here (for flame graphs)")
    return parser.parse_args()


def _profile(folder: Path, options: argparse.Namespace) -> None:
    spy = str(_PY_SPY) if _PY_SPY.exists() else shutil.which("py-spy")
    if spy is None:
        raise BenchError("py-spy is not here; `make bench-deps` puts it into build/profile-venv.")
    benchmark, secrets, port = RELAYED[options.load], make_secrets(folder), free_port()
    load: Load = benchmark.load
    settings = RelayOptions(options.workers, secrets, benchmark.dkim, load.secure, the_route(port))
    with Relay(folder / "relay", settings).serving() as relay, sink(folder, port=port) as drain:
        warm_up = run_once(relay, drain, load, max(20, min(1000, int(50e6 / load.size))), secrets)
        count = int(warm_up.rate * options.seconds)
        workers = sorted(set(tree.descent(relay.pid)) - {relay.pid})
        raw = [folder / f"stacks-{pid}" for pid in workers]
        command = [spy, "record", "--format", "raw", "--threads", "--function", "--rate", str(_HERTZ)]
        command += ["--duration", str(int(options.seconds))] + (["--native"] if options.native else [])
        command += ["--gil"] if options.gil else []
        spies = [
            subprocess.Popen(
                [*command, "--pid", str(pid), "--output", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            for pid, path in zip(workers, raw, strict=True)
        ]
        time.sleep(0.5)
        sample = run_once(relay, drain, load, count, secrets)
        for one in spies:
            _, complaint = one.communicate(timeout=60 + options.seconds)
            if one.returncode:
                raise BenchError(f"py-spy: {complaint.decode(errors='replace')}")
    shares = _shares(raw)
    if options.raw is not None:
        options.raw.write_text("".join(path.read_text() for path in raw))
    print(f"{options.load}: {sample.rate:.0f} messages/s while watched, {sample.cpu_each:.3f} ms CPU each\n")
    _print(shares, options.top)


def _shares(files: list[Path]) -> Shares:
    shares = Shares()
    for path in files:
        for line in path.read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            shares.add(stack.replace(str(Path(__file__).parents[1]) + "/", "").split(";"), int(count))
    return shares


def _print(shares: Shares, top: int) -> None:
    for title, counted, most in (
        ("threads", shares.threads, 10),
        ("files, themselves", shares.files, top),
        ("functions, themselves", shares.own, top),
        ("functions, with what they call", shares.whole, top * 2),
    ):
        print(f"{title}:")
        for name, count in counted.most_common(most):
            print(f"  {count / max(1, shares.samples):6.1%}  {name}")
        print()


if __name__ == "__main__":
    sys.exit(main())
