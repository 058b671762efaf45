"""Checks that the files and folders named in settings exist, are readable and protected, and have the right content.

A private key that other users of the machine can *read* causes a warning: secrets mounted into containers often can be
read, and the relay should start nevertheless. One that others can *write* is a problem: they could replace the key.
File contents are never shown.
"""

import os
import stat
from pathlib import Path
from typing import Final

from relay_config.check_values import Check
from relay_config.problems import Findings, KeyPath, found

_RSA_MOST: Final = 4096


def _file(value: str, path: KeyPath, findings: Findings) -> bytes | None:
    """The file's content, or None after adding a problem."""
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
    # Importing cryptography takes a tenth of a second, so it is imported only if there are keys.
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from relay_config.private_keys import PRIVATE_KEYS, KeyRefusedError

    try:
        key = PRIVATE_KEYS.load(content)
    except KeyRefusedError as error:
        findings.problem(path, f"{found(value)}, which holds {error.what}", error.remedy)
        return
    if isinstance(key, RSAPrivateKey) and key.key_size > _RSA_MOST:
        findings.warn(
            path, f"{found(value)}, which holds an RSA key of {key.key_size} bits", "verifiers need not take over 4096"
        )


def check_folder(value: str, path: KeyPath, findings: Findings) -> None:
    """Check the data folder: it must be a real, protected folder, or one that can be created."""
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
    if Path(value).is_symlink():
        # For example /dev/stderr. A log is never opened through a link, because somebody else may have created it.
        findings.problem(path, f"{found(value)}, which is a symbolic link", 'name the file itself, or "stderr"')
    elif Path(value).is_dir():
        findings.problem(path, f"{found(value)}, which is a folder", 'name a file, or "stderr"')
    elif not Path(value).parent.is_dir():
        findings.problem(path, f"{found(value)}, whose folder does not exist", f"mkdir {Path(value).parent}")


FILE_CHECKS: Final[dict[str, Check]] = {
    "file": _plain_file,
    "secret_file": _secret,
    "dkim_key": _dkim_key,
    "password_file": _password_file,
    "folder": check_folder,
    "log": _log,
}
"""Checks by their name in the schema."""
