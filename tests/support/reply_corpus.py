"""The replies of `tests/delivery/replies.tsv`, and how well they are classed: the table of `docs/reference`.

`python -m tests.support.reply_corpus` prints the table.
"""

import sys
from collections import defaultdict
from typing import NamedTuple

from relay.cli.explain import parse
from relay.delivery.outcome import Disposition, Outcome
from relay.delivery.smtp_outcome import judge_reply
from tests.support.source_tree import ROOT

FILE = ROOT / "tests/delivery/replies.tsv"
_FEW = 5
"""Sources with fewer replies are counted together."""


class Row(NamedTuple):
    """One reply and what is wanted of it."""

    source: str
    text: str
    disposition: Disposition
    classes: tuple[str, ...]
    """The first is what it is counted as."""
    lane_goes_on: bool
    why: str
    """Why the rules say otherwise; empty where they agree."""

    def judged(self) -> Outcome:
        reply = parse(self.text)
        assert reply is not None, self.text
        return judge_reply(reply)

    def right(self, outcome: Outcome) -> bool:
        agreed = outcome.failure in self.classes and outcome.disposition is self.disposition
        return agreed and not (self.lane_goes_on and outcome.lane_fault)


def corpus() -> list[Row]:
    rows = []
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            source, text, wanted, *why = line.split("\t")
            words, _, lane = wanted.partition(", ")
            letter, _, classes = words.partition(" ")
            disposition = Disposition.PERMANENT if letter == "P" else Disposition.TEMPORARY
            rows.append(Row(source, text, disposition, tuple(classes.split("/")), bool(lane), "".join(why)))
    return rows


def table() -> str:
    """How many of the corpus' replies are classed as wanted, by class and by source."""
    counts: dict[str, dict[str, list[int]]] = {
        "class": defaultdict(lambda: [0, 0]),
        "source": defaultdict(lambda: [0, 0]),
    }
    for row in corpus():
        right = row.judged().failure in row.classes
        for kind, key in (("class", row.classes[0]), ("source", row.source)):
            counts[kind][key][0] += right
            counts[kind][key][1] += 1
    few = [source for source, (_, whole) in counts["source"].items() if whole < _FEW]
    for source in few:
        right, whole = counts["source"].pop(source)
        counts["source"]["others"][0] += right
        counts["source"]["others"][1] += whole
    return "\n".join(_part(kind, counts[kind]) for kind in counts)


def _part(kind: str, counts: dict[str, list[int]]) -> str:
    lines = [f"| {kind} | right | of |", "|---|---|---|"]
    lines += [f"| {key} | {right} | {whole} |" for key, (right, whole) in sorted(counts.items())]
    lines.append(f"| all | {sum(r for r, _ in counts.values())} | {sum(w for _, w in counts.values())} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
