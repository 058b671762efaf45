"""Certificates that are replaced while they are read."""

import os
import ssl
import threading
import time
from pathlib import Path

import pytest

from relay.process.materials import MaterialError, Materials
from relay_config.schema import Settings, Tls
from tests.support.certificates import client_context, write_pem


def shakes_hands(server: ssl.SSLContext) -> bool:
    """Whether a client gets through, in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client_context().wrap_bio(to_client, to_server, server_hostname="mx.test")
    other = server.wrap_bio(to_server, to_client, server_side=True)
    done = set()
    for _ in range(10):
        for side in (one, other):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
    return len(done) == 2


def pairs(tmp_path: Path) -> list[tuple[bytes, bytes]]:
    """Two (certificate, key), as PEM."""
    made = []
    for name in ("old", "new"):
        folder = tmp_path / name
        folder.mkdir()
        certificate, key, _ = write_pem(folder)
        made.append((certificate.read_bytes(), key.read_bytes()))
    return made


def test_half_a_pair_changes_nothing(tmp_path):
    (old_certificate, old_key), (new_certificate, new_key) = pairs(tmp_path)
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(old_certificate)
    key.write_bytes(old_key)
    settings = Settings(hostname="relay.test", tls=Tls(certificate=str(certificate), key=str(key)))
    materials = Materials(settings)
    before = materials.tls
    certificate.write_bytes(new_certificate)
    for half in (b"", new_key[: len(new_key) // 2], old_key):
        key.write_bytes(half)
        with pytest.raises(MaterialError):
            materials.reload(settings)
        assert materials.tls is before
        assert shakes_hands(before)
    key.write_bytes(new_key)
    materials.reload(settings)
    assert materials.tls is before, "so that sessions that shake hands later have the new one"
    assert shakes_hands(before)


def test_files_replaced_between_two_looks_leave_no_half_of_a_pair(tmp_path):
    """The key is a pipe, which gives the right key to the first look and another to the second."""
    (old_certificate, old_key), (_, new_key) = pairs(tmp_path)
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(old_certificate)
    os.mkfifo(key)
    settings = Settings(hostname="relay.test", tls=Tls(certificate=str(certificate), key=str(key)))

    def write() -> None:
        for octets in (old_key, old_key, new_key):
            key.write_bytes(octets)
            time.sleep(0.2)  # until the reader has closed its end: what is written before goes to nobody

    writer = threading.Thread(target=write)
    writer.start()
    materials = Materials(settings)
    materials.reload(settings)
    writer.join()
    assert materials.tls is not None
    assert shakes_hands(materials.tls)
