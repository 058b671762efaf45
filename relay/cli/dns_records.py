"""The DNS records that a new relay needs, and what to know where a domain has such records already.

Pure: names in, text out. Nothing here asks the DNS.
"""

import ipaddress
import textwrap
from collections.abc import Sequence
from typing import Final

EXAMPLE: Final = "192.0.2.25"
"""Stands for an address that is not known (RFC 5737 sets 192.0.2.0/24 aside for examples)."""
_WIDTH: Final = 100


def introduction(hostname: str, addresses: Sequence[str]) -> str:
    """The sentences before the records: which address they name, and its reverse look-up."""
    if addresses:
        known = f"{' and '.join(addresses)}: this machine's own; if mail leaves by another address, write that."
    else:
        known = f"{EXAMPLE} stands for this server's public address: write the real one."
    return f"Publish these records. {known} The reverse look-up (PTR) of the address must give {hostname}."


def address_and_policies(hostname: str, domain: str, addresses: Sequence[str]) -> list[str]:
    """The records besides DKIM's, as lines of a zone file."""
    lines = [
        f"{hostname}. IN {'AAAA' if ipaddress.ip_address(address).version == 6 else 'A'} {address}"
        for address in addresses or [EXAMPLE]
    ]
    lines.append(f'{hostname}. IN TXT "v=spf1 a -all"')
    if domain != hostname:
        lines.append(f'{domain}. IN TXT "v=spf1 a:{hostname} -all"')
    lines.append(f'_dmarc.{domain}. IN TXT "v=DMARC1; p=none; rua=mailto:postmaster@{domain}"')
    return lines


def notes(hostname: str, domain: str) -> list[str]:
    """What to know about the records, one paragraph each."""
    added = "a" if domain == hostname else f"a:{hostname}"
    # RFC 7208 §3.2, §4.5: two SPF records are an error. RFC 7489 §6.6.3: two DMARC records count as none.
    merge = (
        f"If {domain} has an SPF record (v=spf1) already, publish no second one but merge: add {added} to the one it "
        "has, before its last word. Of the _dmarc records, too, there may be only one: keep the one there is."
    )
    # RFC 5321 §4.5.5, RFC 7489 §7.1: whoever sends must be able to receive what comes back.
    receive = (
        f"{domain} needs an MX record that names a server with its mailboxes; keep the one there is. Mail that another "
        f"server returns late, replies, and the DMARC reports to postmaster@{domain} go there. The relay itself "
        "receives no mail for mailboxes."
    )
    if domain == hostname:
        return [merge, receive]
    # RFC 7208 §2.3, §2.4: the HELO identity; with an empty reverse-path it is the only one.
    helo = (
        f"The SPF record of {hostname} is for the relay's own name, which receivers look at when a delivery status "
        "notification has no sender."
    )
    return [helo, merge, receive]


def filled(paragraph: str, first: str) -> str:
    """A paragraph in lines, after a number or a bullet."""
    return textwrap.fill(
        paragraph,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )
