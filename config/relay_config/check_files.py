"""Checks of the files and folders that settings name: there, readable, well guarded, and of the right content.

A private key that other users of the machine can *read* is a warning: secrets mounted into containers often are, and
no start should fail for it. One that others can *write* is a problem: they could make the relay sign as they like.
Nothing read here is ever shown.
"""

import os
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from relay_config.check_values import Check
from relay_config.patterns import matches
from relay_config.problems import Findings, KeyPath, found
from relay_config.schema import Settings

_SOON: Final = 14 * 86_400
"""Seconds before a certificate's end from which on it is warned about."""
_RSA_LEAST: Final = 2048
_RSA_MOST: Final = 4096


def _file(value: str, path: KeyPath, findings: Findings) -> bytes | None:
    """The file's content, or None after noting why not."""
    try:
        status = Path(value).stat()
        if not stat.S_ISREG(status.st_mode):
            findings.problem(path, f"{found(value)}, which is no file", "name a file")
            return None
        if status.st_mode & stat.S_IWOTH:
            findings.problem(path, f"{found(value)}, which everybody may change", f"chmod o-w {value}")
        return Path(value).read_bytes()
    except FileNotFoundError:
        findings.problem(path, f"{found(value)}, which does not exist", "create it or name another")
    except OSError as error:
        findings.problem(path, f"{found(value)} ({error.strerror})", "make it readable for the relay's user")
    return None


def _plain_file(value: str, path: KeyPath, findings: Findings) -> None:
    _file(value, path, findings)


def _secret_file(value: str, path: KeyPath, findings: Findings) -> bytes | None:
    content = _file(value, path, findings)
    if content is not None and Path(value).stat().st_mode & stat.S_IROTH:
        findings.warn(path, f"{found(value)}, which everybody may read", f"chmod o-rwx {value}")
    return content


def _secret(value: str, path: KeyPath, findings: Findings) -> None:
    _secret_file(value, path, findings)


def _password_file(value: str, path: KeyPath, findings: Findings) -> None:
    content = _secret_file(value, path, findings)
    if content is not None and not content.split(b"\n", 1)[0].strip():
        findings.problem(path, f"{found(value)}, whose first line is empty", "write the password in the first line")


def _dkim_key(value: str, path: KeyPath, findings: Findings) -> None:
    content = _secret_file(value, path, findings)
    if content is None:
        return
    # cryptography takes a tenth of a second to import; only settings with keys pay for it.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    remedy = "make one with `relay dkim generate`"
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError:
        findings.problem(path, f"{found(value)}, which is encrypted", "store the key without a passphrase")
        return
    except (ValueError, UnsupportedAlgorithm):
        findings.problem(path, f"{found(value)}, which is no private key in PEM form", remedy)
        return
    if isinstance(key, RSAPrivateKey):
        if key.key_size < _RSA_LEAST:
            # RFC 8301 §3.2: signers use at least 1024, and should use at least 2048 bits.
            findings.problem(path, f"{found(value)}, an RSA key of {key.key_size} bits", "use 2048 bits; " + remedy)
        elif key.key_size > _RSA_MOST:
            findings.warn(
                path, f"{found(value)}, an RSA key of {key.key_size} bits", "verifiers need not take over 4096"
            )
    elif not isinstance(key, Ed25519PrivateKey):
        findings.problem(path, f"{found(value)}, a key DKIM has no use for", "use RSA or Ed25519; " + remedy)


def check_folder(value: str, path: KeyPath, findings: Findings) -> None:
    """The data folder: a real folder of ours, or one that can be made."""
    try:
        status = os.lstat(value)
    except FileNotFoundError:
        parent = str(Path(value).parent)
        if not Path(parent).is_dir():
            remedy = f"create it: install -d -m 0700 {value}"
            findings.problem(path, f"{found(value)}, and {parent} does not exist either", remedy)
        return
    except OSError as error:
        findings.problem(path, f"{found(value)} ({error.strerror})", "name a folder for the relay alone")
        return
    if stat.S_ISLNK(status.st_mode):
        findings.problem(
            path, f"{found(value)}, which is a symbolic link", f"name the folder itself: {os.path.realpath(value)}"
        )
    elif not stat.S_ISDIR(status.st_mode):
        findings.problem(path, f"{found(value)}, which is no folder", "name a folder for the relay alone")
    elif status.st_mode & stat.S_IWOTH:
        findings.problem(path, f"{found(value)}, which everybody may change", f"chmod 0700 {value}")
    elif status.st_mode & stat.S_IROTH:
        findings.warn(path, f"{found(value)}, which everybody may read", f"chmod 0700 {value}")


def _log(value: str, path: KeyPath, findings: Findings) -> None:
    if value == "stderr":
        return
    if Path(value).is_dir():
        findings.problem(path, f"{found(value)}, which is a folder", 'name a file, or "stderr"')
    elif not Path(value).parent.is_dir():
        findings.problem(path, f"{found(value)}, whose folder does not exist", f"mkdir {Path(value).parent}")


def check_certificate(settings: Settings, now: float, findings: Findings) -> None:
    """The server's certificate and key load, belong together, and are valid at `now` for the host name."""
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
    # Without this OpenSSL would ask on the terminal.
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


FILE_CHECKS: Final[dict[str, Check]] = {
    "file": _plain_file,
    "secret_file": _secret,
    "dkim_key": _dkim_key,
    "password_file": _password_file,
    "folder": check_folder,
    "log": _log,
}
"""By the name in the schema."""
