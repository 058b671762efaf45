"""The Message-ID of a message, as people search for it (RFC 5322 §3.6.4). Must not judge or change the field."""

import re

from relay.message.headers import Header

LONGEST = 998
"""Characters kept: what fits on one line (RFC 5322 §2.1.1)."""

_ID = re.compile(r"<[^<>\s]+>")


def message_id(header: Header) -> str | None:
    """The value of the Message-ID field in one line of printable text; None where there is none.

    That is the identifier in its angle brackets, without comments and folds; of a malformed field, all of its text.
    """
    value = header.value(b"message-id")
    if value is None:
        return None
    text = value.strip().decode("utf-8", "replace")
    if not (text.startswith("<") and text.isprintable() and text.find(">") == len(text) - 1):
        found = _ID.search(text)
        text = found[0] if found is not None else " ".join(text.split())
        if not text.isprintable():
            text = "".join(c if c.isprintable() else "?" for c in text)
    return text[:LONGEST] or None
