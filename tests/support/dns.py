"""A small DNS server on loopback, for tests: UDP and TCP on one port, zones in a dict, faults by name.

    zones = {"example.org": {"MX": [(10, "mx1.example.org")]}, "mx1.example.org": {"A": ["127.0.0.1"]}}
    async with MiniDns(zones) as dns:
        dns.address  # "127.0.0.1:40123", for `dns.nameservers`
        dns.zones["late.example"] = {...}  # may change while it runs
        dns.faults["slow.example"] = Fault("delay", delay=0.1)
        dns.queries[("example.org", "MX")]  # how often it was asked

It answers as a recursive resolver does: CNAMEs are followed inside its zones and the chain is in the answer. A name
that is in no zone is NXDOMAIN, one that lacks the asked type (or lies above another name) has no data. `*.example.org`
is a wildcard. Tests that drive processes rather than a loop use `dns_in_thread`.
"""

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.MX
import dns.rrset

from tests.support.ports import free_port

Zone = dict[str, Any]
"""Record type -> list of values. MX: (preference, host); CNAME: one name; `TTL`: seconds; others: zone file text.

A host may be a tuple of label bytes where no text can say it: `(b"has space", b"example", b"")`.
"""

_MAX_CHAIN = 20
_DEFAULT_TTL = 300


class _FromElsewhere(bytes):
    """A datagram that is to come from another port."""

    __slots__ = ()


@dataclass
class Fault:
    """What goes wrong when a name is asked for.

    kind: `servfail`, `refused`, `nxdomain`, `timeout` (no answer), `truncate` (UDP answers are empty with TC set),
    `wrong-id`, `wrong-question` and `wrong-source` (a forged answer with `forged` as its addresses comes first; over
    UDP alone, `wrong-source` from another port), `garbage` (no DNS message), `delay`, `flap` (every second query fails
    with SERVFAIL, beginning with the first).
    """

    kind: str
    delay: float = 0.0
    """Seconds before the answer."""
    times: int | None = None
    """For so many queries; None: for all."""
    answered: bool = True
    """Whether the right answer follows a forged one."""
    forged: str = "192.0.2.66"
    seen: int = 0
    """Queries that met it."""


class MiniDns:
    """The server. Start it with `async with`, or `start` and `aclose`."""

    def __init__(self, zones: dict[str, Zone] | None = None, faults: dict[str, Fault] | None = None) -> None:
        self.zones: dict[str, Zone] = zones if zones is not None else {}
        self.faults: dict[str, Fault] = faults if faults is not None else {}
        """By name, or by `name/TYPE`."""
        self.queries: Counter[tuple[str, str]] = Counter()
        """(name, type) -> queries, UDP and TCP together."""
        self.tcp_queries = 0
        self.payload = 0
        """EDNS payload size of the last query; 0 without EDNS."""
        self.authenticated = False
        """Set AD in answers."""
        self.host = "127.0.0.1"
        self.port = 0
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Bind UDP and TCP to one free port (or to `port`, if that is set)."""
        loop = asyncio.get_running_loop()
        for attempt in range(20):
            port = self.port or free_port()
            try:
                transport, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self), local_addr=(self.host, port)
                )
            except OSError:
                # Kept for TCP alone: any query of anybody may have the same port of UDP.
                if self.port or attempt == 19:
                    raise
                continue
            self._tcp = await asyncio.start_server(self._stream, self.host, port)
            self._udp, self.port = transport, port
            return

    async def aclose(self) -> None:
        """Stop answering; the port stays known, so that `start` comes back on it."""
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
            for writer in list(self._writers):
                writer.close()
            await self._tcp.wait_closed()
        self._udp = self._tcp = None
        await asyncio.sleep(0)

    def reply(self, wire: bytes, *, tcp: bool) -> tuple[float, list[bytes]]:
        """(seconds to wait, messages to send) for one query."""
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return 0.0, []
        if len(query.question) != 1 or query.opcode() != dns.opcode.QUERY:
            return 0.0, []
        name = query.question[0].name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(query.question[0].rdtype)
        self.queries[name, kind] += 1
        self.tcp_queries += tcp
        self.payload = query.payload if query.edns >= 0 else 0
        fault = self._fault(name, kind)
        answer = self._answer(query)
        if fault is None:
            return 0.0, [self._wire(query, answer, tcp=tcp)]
        return fault.delay, self._faulty(fault, query, answer, tcp=tcp)

    def _fault(self, name: str, kind: str) -> Fault | None:
        fault = self.faults.get(f"{name}/{kind}") or self.faults.get(name)
        if fault is None or (fault.times is not None and fault.seen >= fault.times):
            return None
        fault.seen += 1
        return fault

    def _faulty(
        self, fault: Fault, query: dns.message.Message, answer: dns.message.Message, *, tcp: bool
    ) -> list[bytes]:
        right = [self._wire(query, answer, tcp=tcp)]
        fixed = {"timeout": [], "garbage": [b"\x00\x01garbage"], "delay": right}
        if fault.kind in fixed:
            return fixed[fault.kind]
        if fault.kind == "truncate":
            return right if tcp else [_truncated(query)]
        if fault.kind in ("wrong-id", "wrong-question", "wrong-source"):
            return [_forged(fault, query), *(right if fault.answered else [])]
        if fault.kind == "flap":
            return [_failure(query, dns.rcode.SERVFAIL)] if fault.seen % 2 else right
        codes = {"servfail": dns.rcode.SERVFAIL, "refused": dns.rcode.REFUSED, "nxdomain": dns.rcode.NXDOMAIN}
        return [_failure(query, codes[fault.kind])]

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(query, recursion_available=True)
        if self.authenticated:
            answer.flags |= dns.flags.AD
        question = query.question[0]
        name = question.name
        for _ in range(_MAX_CHAIN):
            zone = self._zone(name)
            if zone is None:
                if not self._above(name):
                    answer.set_rcode(dns.rcode.NXDOMAIN)
                break
            ttl = zone.get("TTL", _DEFAULT_TTL)
            if "CNAME" in zone and question.rdtype != dns.rdatatype.CNAME:
                target = _name(zone["CNAME"])
                answer.answer.append(dns.rrset.from_text(name, ttl, "IN", "CNAME", target.to_text()))
                name = target
                continue
            records = zone.get(dns.rdatatype.to_text(question.rdtype), [])
            if records:
                answer.answer.append(_rrset(name, ttl, question.rdtype, records))
            break
        if not answer.answer or answer.rcode() != dns.rcode.NOERROR:
            soa = "ns.test. hostmaster.test. 1 3600 600 86400 60"
            answer.authority.append(dns.rrset.from_text("test.", 60, "IN", "SOA", soa))
        return answer

    def _zone(self, name: dns.name.Name) -> Zone | None:
        text = name.to_text(omit_final_dot=True).lower()
        zone = self.zones.get(text)
        while zone is None and "." in text:
            text = text.partition(".")[2]
            zone = self.zones.get(f"*.{text}")
        return zone

    def _above(self, name: dns.name.Name) -> bool:
        """Whether some zone lies below the name: then the name exists without data (RFC 8020)."""
        suffix = "." + name.to_text(omit_final_dot=True).lower()
        return any(known.endswith(suffix) for known in self.zones)

    @staticmethod
    def _wire(query: dns.message.Message, answer: dns.message.Message, *, tcp: bool) -> bytes:
        wire = answer.to_wire(max_size=65535)
        limit = 65535 if tcp else max(512, query.payload)
        return wire if len(wire) <= limit else _truncated(query)

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                delay, replies = self.reply(await reader.readexactly(size), tcp=True)
                await asyncio.sleep(delay)
                for wire in replies:
                    writer.write(len(wire).to_bytes(2, "big") + wire)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client left
        finally:
            self._writers.discard(writer)
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: MiniDns) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport) or hasattr(transport, "sendto")
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        delay, replies = self._server.reply(data, tcp=False)
        if delay:
            asyncio.get_running_loop().call_later(delay, self._send, replies, addr)
        else:
            self._send(replies, addr)

    def _send(self, replies: list[bytes], addr: tuple[str, int]) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            for wire in replies:
                if isinstance(wire, _FromElsewhere):
                    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                        other.bind((self._server.host, 0))
                        other.sendto(wire, addr)
                else:
                    self._transport.sendto(wire, addr)


def _name(host: str | tuple[bytes, ...]) -> dns.name.Name:
    return dns.name.Name(host) if isinstance(host, tuple) else dns.name.from_text(host)


def _rrset(name: dns.name.Name, ttl: int, kind: dns.rdatatype.RdataType, records: list[Any] | str) -> dns.rrset.RRset:
    rrset = dns.rrset.RRset(name, dns.rdataclass.IN, kind)
    for record in [records] if isinstance(records, str) else records:
        if kind == dns.rdatatype.MX:
            rdata: dns.rdata.Rdata = dns.rdtypes.ANY.MX.MX(dns.rdataclass.IN, kind, record[0], _name(record[1]))
        else:
            rdata = dns.rdata.from_text("IN", kind, record)
        rrset.add(rdata, ttl)
    rrset.update_ttl(ttl)
    return rrset


def _failure(query: dns.message.Message, code: dns.rcode.Rcode) -> bytes:
    answer = dns.message.make_response(query, recursion_available=True)
    answer.set_rcode(code)
    return answer.to_wire()


def _truncated(query: dns.message.Message) -> bytes:
    answer = dns.message.make_response(query, recursion_available=True)
    answer.flags |= dns.flags.TC
    return answer.to_wire()


def _forged(fault: Fault, query: dns.message.Message) -> bytes:
    """An answer that an attacker who cannot see the query might send."""
    question = query.question[0]
    forged = dns.message.make_response(query, recursion_available=True)
    if fault.kind == "wrong-id":
        forged.id = (query.id + 1) % 65536
    elif fault.kind == "wrong-question":
        forged.question = [dns.rrset.RRset(dns.name.from_text("other.test"), question.rdclass, question.rdtype)]
    name = forged.question[0].name
    record = f"1 {fault.forged}." if question.rdtype == dns.rdatatype.MX else fault.forged
    if question.rdtype in (dns.rdatatype.MX, dns.rdatatype.A):
        forged.answer.append(dns.rrset.from_text(name, 300, "IN", question.rdtype, record))
    return _FromElsewhere(forged.to_wire()) if fault.kind == "wrong-source" else forged.to_wire()


@contextlib.contextmanager
def dns_in_thread(zones: dict[str, Zone] | None = None, faults: dict[str, Fault] | None = None) -> Iterator[MiniDns]:
    """A `MiniDns` that runs in a thread of its own, for tests that start processes and have no loop."""
    server = MiniDns(zones, faults)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="mini-dns", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.aclose(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
