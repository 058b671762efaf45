"""What the fuzzers run: each target takes any octets and checks what must always hold; seeds are our own dialogs.

The same targets are run by hypothesis in `make test` (a few hundred inputs), and by `make fuzz` for as long as wanted.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

TOKENS = [
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b".",
    b"\r\n.\r\n",
    b"\r\n ",
    b"\t",
    b" ",
    b'"',
    b"\\",
    b"<",
    b">",
    b"@",
    b"(",
    b")",
    b"[",
    b"]",
    b":",
    b";",
    b",",
    b"=",
    b"+0D+0A",
    b"-",
    b"\xff",
    b"\xc0\xae",
    b"\xe2\x80\xa8",
    "\u0663".encode(),
    "\u202e".encode(),
    b"\x1b[31m",
    b"x" * 998,
    b"9" * 25,
    b"250 ",
    b"250-",
    b"{}",
    b"[[x]]",
    b"true",
    b"-1",
    b"1e999",
    b"nan",
]


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to be fuzzed."""

    name: str
    run: Callable[[bytes], None]
    """Raises whatever it finds."""
    seeds: Sequence[bytes]


def mutated(chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """A seed with a few changes, two joined, or noise."""
    if chance.random() < 0.05:
        return chance.randbytes(chance.randrange(200))
    octets = bytearray(chance.choice(seeds))
    if chance.random() < 0.2:
        octets += chance.choice(seeds)
    for _ in range(chance.choice((1, 1, 2, 3, 5, 10))):
        at = chance.randrange(len(octets) + 1)
        kind = chance.randrange(6)
        if kind == 0:
            octets[at:at] = chance.choice(TOKENS)
        elif kind == 1:
            octets[at : at + chance.randrange(1, 9)] = chance.choice(TOKENS)
        elif kind == 2:
            del octets[at : at + chance.randrange(1, 30)]
        elif kind == 3 and octets:
            octets[at % len(octets)] ^= 1 << chance.randrange(8)
        elif kind == 4:
            start = chance.randrange(len(octets) + 1)
            octets[at:at] = octets[start : start + chance.randrange(40)]
        else:
            octets[at:at] = bytes(octets[at : at + chance.randrange(1, 20)]) * chance.randrange(1, 30)
    return bytes(octets)
