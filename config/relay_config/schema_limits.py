"""The section `[limits]` of the settings."""

from typing import Annotated

import msgspec

from relay_config.schema_base import Section
from relay_config.schema_base import doc as _doc
from relay_config.words import Duration, Size


class Limits(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds on what one client can make the relay do."""

    connections: Annotated[int, _doc("Open connections per worker."), msgspec.Meta(ge=1)] = 1000
    reserved_connections: Annotated[
        Annotated[int, msgspec.Meta(ge=0)] | None,
        _doc(
            "Of these, connections that are kept for clients in `submission.trusted_networks` and for addresses that "
            "logged in during the last day; strangers are refused when only these are left. Default: a tenth.",
            example=100,
        ),
    ] = None
    connections_per_address: Annotated[
        int, _doc("Open connections per client address, at all workers together."), msgspec.Meta(ge=1)
    ] = 50
    connections_per_minute: Annotated[
        int,
        _doc(
            "Connections in a minute from a client address outside `submission.trusted_networks`, at all workers "
            "together; 0: no limit."
        ),
        msgspec.Meta(ge=0),
    ] = 12_000
    command_line: Annotated[
        int, _doc("Octets of a command line with its CRLF (AUTH: 12,288)."), msgspec.Meta(ge=512)
    ] = 2048
    header_size: Annotated[Size, _doc("Octets of a message's header block.")] = Size(256 * 1024)
    header_fields: Annotated[int, _doc("Fields in a message's header."), msgspec.Meta(ge=1)] = 1000
    received_fields: Annotated[
        int, _doc("Received fields before a message counts as looping."), msgspec.Meta(ge=25)
    ] = 50
    auth_failures: Annotated[int, _doc("Failed AUTH attempts per connection."), msgspec.Meta(ge=1)] = 3
    auth_failures_per_minute: Annotated[
        int,
        _doc(
            "Failed AUTH attempts per minute of a client address at one user, and different ones at all users; ten "
            "times as many at one user from all addresses. Right generated passwords always pass."
        ),
        msgspec.Meta(ge=1),
    ] = 10
    client_events: Annotated[
        int,
        _doc(
            "Refused commands, failed logins and failed TLS handshakes per minute and client address that a worker "
            "records as events; others are counted. 0: no limit."
        ),
        msgspec.Meta(ge=0),
    ] = 60
    errors: Annotated[
        int,
        _doc(
            "Refused commands per session. Temporary refusals (4xx) count once there were 100 of them since the last "
            "message, or four times `submission.max_recipients` if that is more."
        ),
        msgspec.Meta(ge=1),
    ] = 10
    unknown_commands: Annotated[int, _doc("Unknown commands per session."), msgspec.Meta(ge=1)] = 5
    idle_timeout: Annotated[Duration, _doc("Longest wait for a client's next command.")] = Duration(300)
    session_timeout: Annotated[
        Duration, _doc("Longest whole session, unless a message is still arriving fast enough.")
    ] = Duration(3600)
    data_rate: Annotated[
        int, _doc("Slowest acceptable message transfer, octets per second averaged over a minute."), msgspec.Meta(ge=0)
    ] = 500
    free_disk: Annotated[
        Size | None,
        _doc(
            "Free space below which no mail is accepted; default: 1.5 x max_message_size or 2 %, the larger.",
            example="1GiB",
        ),
    ] = None
    messages_per_hour: Annotated[int, _doc("Messages a user may submit per hour; 0: no limit."), msgspec.Meta(ge=0)] = 0
    recipients_per_hour: Annotated[
        int, _doc("Recipients a user may submit to per hour; 0: no limit."), msgspec.Meta(ge=0)
    ] = 0
