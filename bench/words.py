"""What the parts of the benchmarks say to each other: errors, samples and rows of the table."""

import statistics
from dataclasses import dataclass, field


class BenchError(Exception):
    """The benchmark cannot be run, or its result would be wrong. The text says what to do."""


class SkipError(BenchError):
    """A peer to compare with is not here; the text says which package has it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of a load through a server."""

    messages: int
    seconds: float
    """From the first submission's start to the last delivery."""
    cpu: float
    """CPU seconds of all processes of the server, those that ended included."""

    @property
    def rate(self) -> float:
        """Messages per second."""
        return self.messages / self.seconds

    @property
    def cpu_each(self) -> float:
        """Milliseconds of CPU per message."""
        return self.cpu / self.messages * 1000


@dataclass(frozen=True, slots=True)
class Target:
    """What a row must reach. `of` is "ratio" (ours / other's) or "value" (ours alone)."""

    of: str
    must: float
    aim: float | None = None
    at_least: bool = True

    def met(self, value: float) -> bool:
        """Whether the "must" is reached."""
        return value >= self.must if self.at_least else value <= self.must

    def __str__(self) -> str:
        sign, times = (">=" if self.at_least else "<="), ("x" if self.of == "ratio" else "")
        aim = "" if self.aim is None else f" (aim {self.aim:g}{times})"
        return f"{sign} {self.must:g}{times}{aim}"


@dataclass(slots=True)
class Row:
    """One line of the table: a quantity, measured for the relay and perhaps for something to compare it with."""

    name: str
    """The benchmark's name."""
    what: str
    unit: str
    ours: list[float]
    other: list[float] = field(default_factory=list)
    """Empty: nothing to compare with."""
    other_is: str = "Postfix"
    target: Target | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Median of ours by the other's median."""
        if not self.ours or not self.other:
            return None
        return statistics.median(self.ours) / statistics.median(self.other)

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None: no target, or nothing measured to compare."""
        if self.target is None or not self.ours:
            return None
        value = self.ratio if self.target.of == "ratio" else statistics.median(self.ours)
        return None if value is None else self.target.met(value)
