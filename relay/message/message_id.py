"""The Message-ID of a message, for searches (RFC 5322 §3.6.4). Must not validate or change the field."""

import re

from relay.message.headers import Header

LONGEST = 998
"""Maximum number of characters kept, the limit of a line (RFC 5322 §2.1.1)."""

_ID = re.compile(r"<[^<>\s]+>")


def message_id(header: Header) -> str | None:
    """Return the value of the Message-ID field as one line of printable text, or None if there is none.

    This is the identifier in angle brackets, without comments and folds, or the whole text of a malformed field.
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
