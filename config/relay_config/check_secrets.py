"""Checks across files: that the certificate matches its key, and that the relay's user can read secrets at a reload.

`relay_config.check_files` has checked each single file before anything here is called.
"""

import grp
import os
import pwd
import ssl
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from relay_config.patterns import matches
from relay_config.problems import Findings, KeyPath, found
from relay_config.schema import Settings

_SOON: Final = 14 * 86_400
"""Seconds before a certificate expires at which warnings begin."""


def check_certificate(settings: Settings, now: float, findings: Findings) -> None:
    """Check that the certificate and key load, belong together, and are valid for the host name at `now`."""
    tls = settings.tls
    if tls.certificate is None or tls.key is None:
        return
    path: KeyPath = ("tls", "certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.certificate, tls.key, password=_no_passphrase)
    except _EncryptedError:
        findings.problem(("tls", "key"), f"{found(tls.key)}, which is encrypted", "store the key without a passphrase")
        return
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            findings.problem(
                ("tls", "key"), f"{found(tls.key)}, which is not the certificate's", "name the key that belongs to it"
            )
        else:
            findings.problem(
                path,
                f"{found(tls.certificate)} ({error.reason or 'not PEM'})",
                "name PEM files of a certificate and its key",
            )
        return
    except OSError as error:
        findings.problem(path, f"{found(tls.certificate)} ({error.strerror})", "make both files readable")
        return
    _check_validity(tls.certificate, settings.hostname, now, findings)


class _EncryptedError(Exception):
    """OpenSSL asked for a passphrase."""


def _no_passphrase() -> str:
    # Without this callback OpenSSL would ask for the passphrase on the terminal.
    raise _EncryptedError


def _check_validity(certificate: str, hostname: str, now: float, findings: Findings) -> None:
    from cryptography import x509

    path: KeyPath = ("tls", "certificate")
    try:
        leaf = x509.load_pem_x509_certificates(Path(certificate).read_bytes())[0]
        extensions = list(leaf.extensions)
    except ValueError:
        findings.warn(path, f"{found(certificate)}, which is unusual", "check it with openssl x509 -text")
        return
    alternatives = [item.value for item in extensions if isinstance(item.value, x509.SubjectAlternativeName)]
    names = [name for alternative in alternatives for name in alternative.get_values_for_type(x509.DNSName)]
    moment = datetime.fromtimestamp(now, UTC)
    end = leaf.not_valid_after_utc
    if end <= moment:
        findings.warn(path, f"{found(certificate)}, which expired on {end:%Y-%m-%d}", "renew it: clients refuse it")
    elif end.timestamp() - now < _SOON:
        findings.warn(path, f"{found(certificate)}, which expires on {end:%Y-%m-%d}", "renew it soon")
    elif leaf.not_valid_before_utc > moment:
        findings.warn(path, f"{found(certificate)}, which is not valid yet", "check this machine's clock")
    if not any(matches(name, hostname) for name in names):
        findings.warn(path, f"{found(certificate)}, which does not name {hostname}", "clients that verify refuse it")


def check_reload(settings: Settings, findings: Findings) -> None:
    """Warn about secrets that a reload could not read.

    If started as root, the relay first reads its secrets as root, but on SIGHUP it reads them as the system user.
    """
    if settings.user is None or os.geteuid() != 0:
        return
    user = pwd.getpwnam(settings.user)
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    group = grp.getgrgid(user.pw_gid).gr_name
    for path, value in _secrets(settings):
        closed = _first_closed(Path(value), user.pw_uid, groups)
        if closed is not None:
            remedy = f"a reload could not read it again: chgrp {group} {closed} and chmod g+rX {closed}"
            findings.warn(path, f"{found(value)}, closed to the user {user.pw_name}", remedy)


def _secrets(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    if settings.tls.certificate is not None:
        yield ("tls", "certificate"), settings.tls.certificate
    if settings.tls.key is not None:
        yield ("tls", "key"), settings.tls.key
    for domain, keys in settings.dkim.items():
        for index, key in enumerate(keys):
            yield ("dkim", domain, index, "key"), key.key
    for index, route in enumerate(settings.route):
        if route.password_file is not None:
            yield ("route", index, "password_file"), route.password_file


def _first_closed(file: Path, uid: int, groups: list[int]) -> Path | None:
    """The first folder on the path that the user cannot enter, or the file if they cannot read it; else None."""
    for part in (*reversed(file.parents), file):
        status = part.stat()
        bits = status.st_mode
        if status.st_uid == uid:
            bits >>= 6
        elif status.st_gid in groups:
            bits >>= 3
        if not bits & (stat.S_IROTH if part == file else stat.S_IXOTH):
            return part
    return None
