"""`python -m tests.fuzz [--seconds N] [TARGET...]`: each target for so long, guided by coverage where atheris is there.

What is found is written to `tests/fuzz/found/TARGET/`, where `make test` runs it from then on. Exit 1 if there is any.
"""

import argparse
import contextlib
import hashlib
import logging
import os
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

FOUND = Path(__file__).with_name("found")


def main() -> int:
    """Run the targets one after the other."""
    logging.lastResort = None  # what is set aside is told there, thousands of times
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target (default: 60)")
    parser.add_argument("targets", nargs="*", help="names; none: all")
    chosen = parser.parse_args()
    guide = _guide()
    targets = _targets(guide)
    unknown = set(chosen.targets) - set(targets)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(targets)}")
    print(f"guided by {'coverage (atheris)' if guide else 'chance alone (atheris is not installed)'}")
    found = 0
    for name in chosen.targets or targets:
        pid = os.fork()
        if not pid:
            os._exit(_child(guide, targets[name], chosen.seconds))
        found += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0
    print(f"{found} targets with findings")
    return 1 if found else 0


def _guide():
    try:
        import atheris
    except ImportError:
        return None
    return atheris


def _targets(guide):
    imports = guide.instrument_imports(include=["relay", "relay_queue", "relay_config"]) if guide else None
    with imports or contextlib.nullcontext():
        from tests.fuzz.targets import PURE
        from tests.fuzz.targets_io import IO
    return {target.name: target for target in PURE + IO}


def _child(guide, target, seconds: float) -> int:
    """Chance for a third of the time, then coverage for the rest."""
    began, runs = time.monotonic(), 0
    chance = random.Random()
    share = seconds / 3 if guide else seconds
    from tests.support.fuzzing import mutated

    while time.monotonic() - began < share:
        data = mutated(chance, target.seeds)
        if not _run(target, data):
            return 1
        runs += 1
    print(f"{target.name}: {runs} inputs by chance in {time.monotonic() - began:.0f} s", flush=True)
    if guide:
        _guided(guide, target, seconds - share)
    return 0


def _run(target, data: bytes) -> bool:
    try:
        target.run(data)
    except BaseException:  # noqa: BLE001 - whatever it is, it is what is looked for
        path = FOUND / target.name / hashlib.sha256(data).hexdigest()[:16]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        traceback.print_exc()
        print(f"{target.name}: FOUND {data!r}\n  kept in {path}", flush=True)
        return False
    return True


def _guided(guide, target, seconds: float) -> None:
    def one(data: bytes) -> None:
        if not _run(target, data):
            os._exit(1)

    with tempfile.TemporaryDirectory() as corpus:
        for n, seed in enumerate(target.seeds):
            (Path(corpus) / str(n)).write_bytes(seed)
        options = ["-max_len=4096", f"-max_total_time={max(int(seconds), 1)}", "-timeout=60", "-rss_limit_mb=4096"]
        guide.Setup([target.name, *options, "-verbosity=0", "-print_final_stats=1", corpus], one)
        guide.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
