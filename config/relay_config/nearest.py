"""Suggests the correct spelling of a misspelled word."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The known word closest to `word`, or None if none is close."""
    close = difflib.get_close_matches(word[:64].lower().replace("-", "_"), list(known), n=1, cutoff=0.6)
    return close[0] if close else None
