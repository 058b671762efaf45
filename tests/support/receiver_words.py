"""The grammar of the scripted receiver: octets of a reply, address and parameters of a command."""

import re

from tests.support.answers import Answer

_PATH = re.compile(r"(?i)(?:FROM|TO):\s*<([^>]*)>\s*(.*)")


def encode(answer: Answer) -> bytes:
    """Octets of a reply; of several lines all but the last get a hyphen after the code."""
    if isinstance(answer, bytes):
        return answer
    lines = answer.split("\n")
    code = lines[0][:3]
    lines = [lines[0][4:], *(line[4:] if line[:3] == code and line[3:4] in "- " else line for line in lines[1:])]
    return "".join(f"{code}{' ' if n == len(lines) - 1 else '-'}{line}\r\n" for n, line in enumerate(lines)).encode()


def parse(argument: str) -> tuple[str, dict[str, str | None]] | None:
    """Address and parameters of MAIL or RCPT."""
    found = _PATH.fullmatch(argument)
    if found is None:
        return None
    params: dict[str, str | None] = {}
    for word in found[2].split():
        name, equals, value = word.partition("=")
        params[name.upper()] = value if equals else None
    return found[1], params
