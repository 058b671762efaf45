"""OpenDKIM as Postfix's milter, signing what the relay signs, with the same key and canonicalisation."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from bench.keys import Secrets
from bench.processes import free_port, program, running, until

_SETTINGS = """\
Mode s
Domain example.com
Selector bench
KeyFile {key}
RequireSafeKeys no
Canonicalization relaxed/relaxed
SignatureAlgorithm rsa-sha256
Socket inet:{port}@127.0.0.1
InternalHosts 127.0.0.1
Background no
"""


@contextlib.contextmanager
def opendkim(folder: Path, secrets: Secrets) -> Iterator[tuple[int, int]]:
    """(port, process id) of an OpenDKIM that runs until the block ends."""
    port = free_port()
    settings = folder / "opendkim.conf"
    settings.write_text(_SETTINGS.format(key=secrets.dkim_key, port=port))
    command = [program("opendkim", "opendkim"), "-f", "-x", str(settings)]
    with running(command, folder / "opendkim.log") as process:
        until(lambda: _open(port), 10, f"OpenDKIM listens (see {folder}/opendkim.log)")
        yield port, process.pid


def _open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
