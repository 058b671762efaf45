"""Before speed is measured: does each server do what the row says? One message, read at the receiver's end."""

from collections.abc import Callable, Sequence
from pathlib import Path

import dkim
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from bench.keys import Secrets
from bench.processes import until
from bench.runs import Server
from bench.traffic import Load, finish, sink, source
from bench.words import BenchError


def check_signatures(servers: Sequence[Server], folder: Path, sink_port: int, secrets: Secrets) -> None:
    """Raises `BenchError` unless what each server relays bears a valid DKIM signature."""
    for server in servers:
        message = _relayed(server, folder, sink_port)
        record = b"v=DKIM1; k=rsa; p=" + _public_key(secrets)
        verify: Callable[..., bool] = dkim.verify
        if not verify(message, dnsfunc=lambda *_args, record=record, **_more: record):
            raise BenchError(f"{server.name} relays without a valid DKIM signature:\n{message[:2000].decode()}")


def _relayed(server: Server, folder: Path, sink_port: int) -> bytes:
    kept = folder / f"probe-{server.name}"
    with sink(folder, port=sink_port, name=f"probe-{server.name}", dump=kept) as drain:
        finish(source(server.port, Load(size=4096), 1), 30)
        until(lambda: drain.count() == 1, 30, f"{server.name} relays one message")
    octets = kept.read_bytes()
    # The sink puts lines of its own, named X-…-Args, on top, and ends lines as Unix does.
    lines = octets.rstrip(b"\n").split(b"\n")
    start = next(number for number, line in enumerate(lines) if line.startswith(b"DKIM-Signature:"))
    return b"\r\n".join(lines[start:]) + b"\r\n"


def _public_key(secrets: Secrets) -> bytes:
    key = load_pem_private_key(secrets.dkim_key.read_bytes(), None)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return b"".join(pem.splitlines()[1:-1])
