"""Two workers against one, with the load generator and the sink beside them on the same cores."""

from pathlib import Path

from bench.ours import Relay, RelayOptions, the_route
from bench.processes import free_port
from bench.runs import Plan, in_turn
from bench.traffic import Load, sink
from bench.words import Row, Target


def measure(name: str, folder: Path, plan: Plan) -> list[Row]:
    """One row."""
    port = free_port()
    two, one = (Relay(folder / f"relay-{n}", RelayOptions(workers=n, extra=the_route(port))) for n in (2, 1))
    two.name, one.name = "two", "one"
    with sink(folder, port=port) as drain, two.serving(), one.serving():
        samples = in_turn((two, one), drain, Load(), plan)
    with_two, with_one = ([sample.rate for sample in mine] for mine in samples)
    return [Row(name, "relayed with 2 workers", "messages/s", with_two, with_one, "1 worker", Target("ratio", 1.4))]
