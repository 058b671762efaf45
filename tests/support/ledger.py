"""Two ledgers and their comparison: what the relay was given and answered, what the receiving side was handed.

The pure heart of the fault harness: no clock, no socket, no disk. Token by token it asks for the invariant: what was
answered 250 is delivered or bounced, once; more than once only if a fault lay between the two deliveries; nothing else
ever leaves.
"""

import collections
import enum
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

_FLIGHT = 0.5
"""Seconds within which a message sent before a fault may be read and answered after it."""


class Answer(enum.Enum):
    """What became of one submission, as its client knows it."""

    UNSENT = enum.auto()
    """The final dot was never sent."""
    UNKNOWN = enum.auto()
    """The dot was sent, and the connection died before the reply: either may be true."""
    TAKEN = enum.auto()
    REFUSED = enum.auto()


@dataclass(slots=True)
class Given:
    """One message as its client sees it."""

    token: str
    recipients: tuple[str, ...]
    answer: Answer = Answer.UNSENT
    reply: str = ""
    at: float = 0.0
    """When the answer came, seconds since the epoch."""

    @property
    def sender(self) -> str:
        return f"s-{self.token}@back.test"

    @property
    def hopeless(self) -> bool:
        """Whether a recipient is of the kind that the receiving side refuses: then a DSN must come back."""
        return any(address.startswith("no-") for address in self.recipients)


@dataclass(slots=True, frozen=True)
class Handed:
    """One 250 for a whole message, to one recipient. Seconds since the epoch."""

    at: float
    opened: float
    """When the connection it came on was opened."""


@dataclass(slots=True)
class Ledger:
    """Who was given what, and who was handed what."""

    given: dict[str, Given] = field(default_factory=dict)
    handed: dict[str, list[Handed]] = field(default_factory=dict)
    """By recipient, in order."""
    damaged: list[str] = field(default_factory=list)
    """Tokens whose content was not what was given."""
    told: dict[tuple[str, str], int] = field(default_factory=dict)
    """By queue id and recipient: how often the relay's own log tells a final outcome."""

    def hand(self, address: str, at: float, opened: float) -> None:
        self.handed.setdefault(address, []).append(Handed(at, opened))

    def answered(self) -> list[Given]:
        return [given for given in self.given.values() if given.answer is Answer.TAKEN]


@dataclass(slots=True)
class Score:
    """The result of a campaign. Lists hold what is wrong, as sentences."""

    faults: int = 0
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: int = 0
    """Deliveries beyond the first that a fault inside the window excuses."""
    wrong: list[str] = field(default_factory=list)
    """Everything else that must not be: doubles without a fault, invented mail, damage, both delivered and bounced."""
    recoveries: list[float] = field(default_factory=list)
    """Seconds from each fault until a new connection was greeted again."""
    window: float = 0.0
    """The longest time between a delivery and the fault that excuses its double, seconds."""
    notes: list[str] = field(default_factory=list)

    def __add__(self, other: "Score") -> "Score":
        return Score(
            self.faults + other.faults,
            self.acknowledged + other.acknowledged,
            self.refused + other.refused,
            self.unknown + other.unknown,
            self.lost + other.lost,
            self.doubled + other.doubled,
            self.wrong + other.wrong,
            self.recoveries + other.recoveries,
            max(self.window, other.window),
            self.notes + [note for note in other.notes if note not in self.notes],
        )

    @property
    def clean(self) -> bool:
        return not self.lost and not self.wrong


def compare(ledger: Ledger, faults: Iterable[float], waiting: frozenset[str] = frozenset()) -> Score:
    """Judge a campaign. `faults` are times; `waiting` recipients that are still in the queue, which is no loss."""
    times = sorted(faults)
    score = Score(faults=len(times))
    for given in ledger.given.values():
        if given.answer is Answer.TAKEN:
            score.acknowledged += 1
        elif given.answer is Answer.REFUSED:
            score.refused += 1
        elif given.answer is Answer.UNKNOWN:
            score.unknown += 1
        _judge(given, ledger, times, waiting, score)
    known = {address for given in ledger.given.values() for address in (*given.recipients, given.sender)}
    score.wrong += [f"{address} got mail that nobody gave" for address in ledger.handed if address not in known]
    score.wrong += [f"{token} arrived damaged" for token in ledger.damaged]
    score.wrong += [f"{key} was told final {count} times" for key, count in ledger.told.items() if count > 1]
    ids = collections.Counter(given.reply.split()[-1] for given in ledger.answered())
    score.wrong += [f"the queue id {each} was given {count} times" for each, count in ids.items() if count > 1]
    return score


def _judge(given: Given, ledger: Ledger, faults: list[float], waiting: frozenset[str], score: Score) -> None:
    for address in given.recipients:
        handed = ledger.handed.get(address, [])
        hopeless = address.startswith("no-")
        if handed and hopeless:
            score.wrong.append(f"{address} was refused by its server, and yet delivered")
        if given.answer is Answer.TAKEN and not hopeless and not handed and address not in waiting:
            score.lost.append(f"{address} was answered 250 ({given.reply}) and never delivered")
        if handed and given.answer in (Answer.UNSENT, Answer.REFUSED):
            score.wrong.append(f"{address} was delivered though its client was told {given.answer.name} {given.reply}")
        _doubles(address, handed, faults, score)
    notices = ledger.handed.get(given.sender, [])
    if given.answer is Answer.TAKEN and given.hopeless and not notices and given.sender not in waiting:
        if not any(address in waiting for address in given.recipients):
            score.lost.append(f"{given.sender} has mail that failed ({given.reply}), and got no DSN")
    elif notices and not given.hopeless:
        score.wrong.append(f"{given.sender} got a DSN though all was delivered: delivered and bounced")
    elif notices and given.answer in (Answer.UNSENT, Answer.REFUSED):
        score.wrong.append(f"{given.sender} got a DSN for what was never taken")
    _doubles(given.sender, notices, faults, score)


def _doubles(address: str, handed: list[Handed], faults: list[float], score: Score) -> None:
    """Each delivery after another needs a fault between the two."""
    for earlier, later in itertools.pairwise(handed):
        # What a dead process had sent is still read from its socket for a moment.
        since = max(earlier.opened, earlier.at - _FLIGHT)
        between = [fault for fault in faults if since <= fault <= later.at]
        if between:
            score.doubled += 1
            score.window = max(score.window, between[0] - earlier.at)
        else:
            gap = later.at - earlier.at
            score.wrong.append(f"{address} was delivered twice ({gap:.3f} s apart) without a fault between")
