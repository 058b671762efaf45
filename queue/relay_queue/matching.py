"""The meaning of a `Selection`, in Python. `relay_queue.sqlite.filters` implements the same in SQL.

The same tests run against both, so they detect a difference.
"""

import fnmatch
import functools
import re

from relay_queue.model import Message, Recipient, Selection


def matches(selection: Selection, message: Message, recipient: Recipient) -> bool:
    """Whether an admin's selection covers this live recipient."""
    return _message_matches(selection, message) and _recipient_matches(selection, recipient)


@functools.lru_cache(maxsize=4096)
def lane_matches(pattern: str, lane: str | None) -> bool:
    """Whether a site pattern (`*` and `?` are wildcards, case is ignored) matches a lane's name, its site, or one host.

    A lane is named `site`, `site#variant`, `site/domain` or `site#variant/domain`; a site is one host, or several
    joined by commas. Lists, suspensions and deliveries all use this function, so that they agree.
    """
    if lane is None:
        return False
    lane = lane.lower()
    expression = re.compile(fnmatch.translate(pattern.lower().replace("[", "[[]")))
    named = lane.partition("/")[0]
    site = named.partition("#")[0]
    return any(expression.match(name) for name in (lane, named, site, *site.split(",")))


def header_ids(text: str) -> tuple[str, str]:
    """The two forms in which a message may contain a Message-ID: without and with angle brackets."""
    bare = text.strip().removeprefix("<").removesuffix(">")
    return bare, f"<{bare}>"


def _message_matches(selection: Selection, message: Message) -> bool:
    sender = message.sender.lower()
    return not (
        (selection.sender is not None and sender != selection.sender.lower())
        or (selection.sender_domain is not None and not sender.endswith("@" + selection.sender_domain.lower()))
        or (selection.user is not None and message.user != selection.user)
        or (selection.received_before is not None and message.received_at >= selection.received_before)
        or (selection.larger_than is not None and message.size <= selection.larger_than)
        or (selection.header_id is not None and message.header_id not in header_ids(selection.header_id))
    )


def _recipient_matches(selection: Selection, recipient: Recipient) -> bool:
    key = f"{recipient.message_id}/{recipient.n}"
    return not (
        (selection.ids and recipient.message_id not in selection.ids and key not in selection.ids)
        or (selection.recipient is not None and recipient.address.lower() != selection.recipient.lower())
        or (selection.domain is not None and recipient.domain != selection.domain.lower())
        or (selection.stream is not None and recipient.stream != selection.stream)
        or (selection.site is not None and not lane_matches(selection.site, recipient.lane))
        or (selection.states and recipient.state not in selection.states)
        or (selection.error is not None and not _says(recipient, selection.error.lower()))
    )


def _says(recipient: Recipient, text: str) -> bool:
    return any(text in (said or "").lower() for said in (recipient.reply, recipient.reason))
