"""A `Selection` as SQL conditions with parameters. `relay_queue.matching` implements the same in Python.

The conditions are fixed texts; an admin's input is only ever passed as a parameter.
"""

import json
from typing import Any

from relay_queue.matching import header_ids
from relay_queue.model import Selection
from relay_queue.sqlite.sql import queries

_PLACE = "/*where*/"
_CONDITIONS = {
    "ids": """
        r.message_id IN (SELECT substr(value, 1, 26) FROM json_each(:ids))
        AND (r.message_id IN (SELECT value FROM json_each(:ids))
             OR (r.message_id || '/' || r.n) IN (SELECT value FROM json_each(:ids)))""",
    "sender": "lower(m.sender) = :sender",
    "sender_domain": "substr(lower(m.sender), -length(:sender_domain)) = :sender_domain",
    "recipient": "lower(r.address) = :recipient",
    "domain": "r.domain = :domain",
    "site": "lane_matches(:site, CAST(r.lane AS BLOB))",
    "stream": "r.stream = :stream",
    "states": "r.state IN (SELECT value FROM json_each(:states))",
    "user": "m.user = :user",
    "received_before": "m.received_at < :received_before",
    "larger_than": "m.size > :larger_than",
    "header_id": "m.header_id IN (SELECT value FROM json_each(:header_id))",
    "error": "(instr(lower(r.reply), :error) > 0 OR instr(lower(r.reason), :error) > 0)",
}


def parameters(selection: Selection) -> dict[str, Any]:
    """The parameters for the conditions that the selection uses, by the condition's name."""
    given: dict[str, Any] = {
        "ids": json.dumps(selection.ids) if selection.ids else None,
        "sender": _lower(selection.sender),
        "sender_domain": None if selection.sender_domain is None else "@" + selection.sender_domain.lower(),
        "recipient": _lower(selection.recipient),
        "domain": _lower(selection.domain),
        "site": selection.site,
        "stream": selection.stream,
        "states": json.dumps([int(state) for state in selection.states]) if selection.states else None,
        "user": selection.user,
        "received_before": selection.received_before,
        "larger_than": selection.larger_than,
        "error": _lower(selection.error),
        "header_id": None if selection.header_id is None else json.dumps(header_ids(selection.header_id)),
    }
    return {name: value for name, value in given.items() if value is not None}


def filtered(query: str, given: dict[str, Any]) -> str:
    """The named admin query with the conditions for these parameters."""
    where = "".join(f" AND ({_CONDITIONS[name]})" for name in given)
    return queries("admin")[query].replace(_PLACE, where)


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()
