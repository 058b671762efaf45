"""Convert our session and transaction to the types that aiosmtpd's handlers expect."""

import asyncio
from typing import Any

from aiosmtpd.proxy_protocol import ProxyData
from aiosmtpd.smtp import Envelope, Session

from relay.model.peer import Peer
from relay.model.transaction import Transaction


def session_view(loop: asyncio.AbstractEventLoop, peer: Peer, proxy: ProxyData | None) -> Session:
    """The session as an aiosmtpd `Session`."""
    view: Any = Session(loop)
    view.peer = (peer.address, peer.port)
    view.host_name = peer.helo or None
    view.extended_smtp = peer.extended
    view.authenticated = peer.identity is not None
    view.auth_data = peer.identity
    view.proxy_data = proxy
    found: Session = view
    return found


def envelope_view(transaction: Transaction | None) -> Envelope:
    """The transaction as an aiosmtpd `Envelope` without content; empty if there is no transaction."""
    view = Envelope()
    if transaction is not None:
        view.mail_from = transaction.sender
        view.smtp_utf8 = transaction.smtputf8
        view.rcpt_tos = [recipient.address for recipient in transaction.recipients]
    return view
