"""Messages relayed from the load generator to the sink, through the relay and through Postfix."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.keys import Secrets, make_secrets
from bench.opendkim import opendkim
from bench.ours import Relay, RelayOptions, the_route
from bench.postfix import Postfix, PostfixOptions
from bench.probe import check_signatures
from bench.processes import free_port
from bench.runs import Plan, Server, in_turn
from bench.traffic import Load, sink
from bench.words import Row, Sample, SkipError, Target


@dataclass(frozen=True, slots=True)
class Relayed:
    """A benchmark of relaying."""

    what: str
    load: Load
    must: float
    """Least ratio to Postfix."""
    aim: float | None = None
    dkim: bool = False
    cpu: tuple[float, float] | None = None
    """Milliseconds of CPU per message: must, aim."""


def measure(name: str, benchmark: Relayed, folder: Path, plan: Plan, *, alone: bool = False) -> list[Row]:
    """The rows of one benchmark: rate, and CPU per message. `alone`: without Postfix."""
    secrets = make_secrets(folder)
    port = free_port()
    with contextlib.ExitStack() as stack:
        options = RelayOptions(
            secrets=secrets, secure=benchmark.load.secure, dkim=benchmark.dkim, extra=the_route(port)
        )
        servers: list[Server] = [stack.enter_context(Relay(folder / "relay", options).serving())]
        skipped = "without Postfix, as asked" if alone else ""
        if not alone:
            try:
                servers.append(_postfix(folder, port, benchmark, secrets, stack))
            except SkipError as error:
                skipped = f"without Postfix: {error}"
        if skipped:
            print(f"  {skipped}")
        if benchmark.dkim:
            check_signatures(servers, folder, port, secrets)
        with sink(folder, port=port) as drain:
            samples = in_turn(servers, drain, benchmark.load, plan, secrets)
    return _rows(name, benchmark, samples, skipped)


def _postfix(
    folder: Path, sink_port: int, benchmark: Relayed, secrets: Secrets, stack: contextlib.ExitStack
) -> Postfix:
    milter_port, helpers = None, []
    if benchmark.dkim:
        milter_port, pid = stack.enter_context(opendkim(folder, secrets))
        helpers = [pid]
    options = PostfixOptions(secrets, secure=benchmark.load.secure, milter_port=milter_port)
    postfix = Postfix(folder / "postfix", sink_port, options)
    postfix.helpers += helpers
    return stack.enter_context(postfix.serving())


def _rows(name: str, benchmark: Relayed, samples: Sequence[Sequence[Sample]], note: str) -> list[Row]:
    ours, other = samples[0], samples[1] if len(samples) > 1 else ()
    peer = "Postfix+OpenDKIM" if benchmark.dkim else "Postfix"
    rate = Row(
        name,
        benchmark.what,
        "messages/s",
        [sample.rate for sample in ours],
        [sample.rate for sample in other],
        peer,
        Target("ratio", benchmark.must, benchmark.aim),
        note,
    )
    cpu = Row(
        name,
        f"{benchmark.what}: CPU each",
        "ms",
        [sample.cpu_each for sample in ours],
        [sample.cpu_each for sample in other],
        peer,
        None if benchmark.cpu is None else Target("value", *benchmark.cpu, at_least=False),
    )
    return [rate, cpu]
