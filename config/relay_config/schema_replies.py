"""The settings about replies of other servers; a part of `relay_config.schema`."""

from typing import Annotated, Literal

import msgspec

from relay_config.schema_base import Section
from relay_config.schema_base import doc as _doc
from relay_config.words import Duration

FailureName = Literal[
    "greylisted",
    "throttled",
    "mailbox_full",
    "unknown_user",
    "policy",
    "reputation",
    "size",
    "content",
    "dns",
    "connect",
    "timeout",
    "tls",
    "auth",
    "protocol",
    "relay_denied",
    "local",
    "other",
]
"""All classes of failure (docs/reference/reply-classes.md)."""


class ReplyRule(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What certain refusals of other servers mean; the first rule that matches wins, before the built-in rules."""

    pattern: Annotated[
        str,
        _doc(
            "Regular expression, in any case, on `code enhanced-code text` of a 4xx or 5xx reply; lines are joined by "
            "blanks, and the first 500 characters are searched. `.*` separates parts; groups must not repeat.",
            example="^550 .*sending limit",
            check="reply_pattern",
        ),
    ]
    site: Annotated[
        str | None,
        _doc(
            "Only replies of these MX hosts (as in [throttle.site]), or of a smarthost `host:port`; default: all.",
            example="*.example.net",
            check="sites",
        ),
    ] = None
    domain: Annotated[
        str | None,
        _doc(
            "Only for recipients of this domain, or of `*.parent`; default: all.",
            example="example.org",
            check="domains",
        ),
    ] = None
    failure: Annotated[
        FailureName | None,
        _doc("Class of the failure; default: as the built-in rules say.", example="throttled"),
    ] = msgspec.field(default=None, name="class")
    disposition: Annotated[
        Literal["temporary", "permanent"] | None,
        _doc("Whether the mail is tried again; default: as the reply code says.", example="temporary"),
    ] = None
    pause: Annotated[
        Duration | None,
        _doc(
            "How long the lane pauses after such a temporary refusal; default: as the built-in rules say.",
            example="10m",
        ),
    ] = None
