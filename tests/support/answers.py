"""What a scripted receiver can answer at a stage, and how scripts are looked up.

An `Answer` is one of: None (the stage's default); text (a reply, lines separated by LF, CRLF added); bytes (sent as
they are); an action below; a list of answers (one for each time the stage is reached, the last repeats); a callable
`(session, argument) -> Answer`, plain or async. "421 …" closes the connection after it was sent.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Answer = Any


@dataclass(slots=True, frozen=True)
class Close:
    """Close, after `first` was sent if given."""

    first: Answer = None
    reset: bool = False
    """With RST instead of FIN."""


@dataclass(slots=True, frozen=True)
class Hang:
    """Say nothing any more; the connection stays open. After `first` was sent if given."""

    first: Answer = None


@dataclass(slots=True, frozen=True)
class Delay:
    """Answer after some seconds, or when the event is set."""

    until: float | asyncio.Event
    answer: Answer = None


@dataclass(slots=True, frozen=True)
class Trickle:
    """Answer one octet a segment."""

    answer: Answer = None
    pause: float = 0.0


@dataclass(slots=True, frozen=True)
class Endless:
    """Repeat these octets for as long as the client reads."""

    octets: bytes = b"250-and so on\r\n"


@dataclass(slots=True, frozen=True)
class Default:
    """The stage's own answer, where a sequence or callable wants it."""


class Scripts:
    """The answers by stage, with the place in each sequence."""

    def __init__(self, **stages: Answer) -> None:
        unknown = {type(answer) for answer in stages.values()} - _KINDS
        assert not [kind for kind in unknown if not issubclass(kind, Callable)], f"no answers: {unknown}"
        self._stages = stages
        self._places: dict[tuple[str, str], int] = {}

    def set(self, stage: str, answer: Answer) -> None:
        """Change a stage's script while the receiver runs; sequences of the stage begin anew."""
        assert stage in self._stages, stage
        self._stages[stage] = answer
        self._places = {key: place for key, place in self._places.items() if key[0] != stage}

    def answer(self, stage: str, argument: str = "") -> Answer:
        """The scripted answer for a stage (and address), before callables are called; None: the default."""
        answer = self._stages[stage]
        key = ""
        if isinstance(answer, dict):
            key = argument if argument in answer else "*"
            answer = answer.get(key)
        if isinstance(answer, list):
            place = self._places.get((stage, key), 0)
            self._places[stage, key] = place + 1
            answer = answer[min(place, len(answer) - 1)]
        return answer


_KINDS: set[type] = {type(None), str, bytes, Close, Hang, Delay, Trickle, Endless, Default, list, dict}
