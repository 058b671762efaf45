"""Signing keys on the command line: their files, their names and their DNS records.

`relay.message.dkim.keys` defines the keys; this module is shared by `relay dkim` and `relay init`.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from relay.cli.exits import FailureError
from relay.message.dkim.keys import Algorithm, KeyFormatError, SigningKey, load, record_name, record_strings
from relay.message.dkim.sign import KeyRing
from relay_config.schema import Settings

PREFIXES: dict[Algorithm, str] = {"rsa": "rsa", "ed25519": "ed"}
"""Begin of the default selectors; a month follows, so that next year's key has a name of its own."""


def default_selector(algorithm: Algorithm, now: float) -> str:
    """E.g. `rsa202611`."""
    return PREFIXES[algorithm] + time.strftime("%Y%m", time.gmtime(now))


def key_file(data_dir: Path, domain: str, selector: str) -> Path:
    """Where a generated key is put."""
    return data_dir / "dkim" / f"{domain}.{selector}.pem"


def as_written(path: Path, settings_folder: Path) -> str:
    """A path as the settings should have it: relative where it lies below the settings file's folder."""
    try:
        return str(path.relative_to(settings_folder))
    except ValueError:
        return str(path.absolute())


def configured(settings: Settings, domain: str | None = None) -> Iterator[tuple[SigningKey, Path]]:
    """The settings' keys with their files, of one domain or of all; raises a failure that names a file."""
    for name, keys in settings.dkim.items():
        if domain is not None and name.lower() != domain:
            continue
        for entry in keys:
            path = Path(entry.key)
            try:
                key = load(path.read_bytes(), name, entry.selector, entry.expire_after)
            except FileNotFoundError:
                raise FailureError(f"{path}: no such key.", "Make one with `relay dkim generate`.") from None
            except KeyFormatError as error:
                raise FailureError(f"{path}: {error}.") from error
            yield key, path


def zone_lines(key: SigningKey) -> str:
    """The record for a zone file, one string a line: as one line it is too long for most eyes and some editors."""
    strings = record_strings(key)
    if len(strings) == 1:
        return f'{record_name(key)}. IN TXT "{strings[0]}"'
    body = "\n".join(f'    "{string}"' for string in strings)
    return f"{record_name(key)}. IN TXT (\n{body} )"


def key_ring(settings: Settings) -> KeyRing:
    """Return all signers of the settings. Raises a failure that names an unusable key."""
    keys: dict[str, list[SigningKey]] = {}
    for key, _ in configured(settings):
        keys.setdefault(key.domain, []).append(key)
    return KeyRing(keys)
