"""Data folders that earlier releases left: `tests/faults/releases`, one for each schema version."""

import shutil
import sqlite3
from pathlib import Path

RELEASES = Path(__file__).parents[1] / "faults" / "releases"


def copy_of(version: int, target: Path) -> Path:
    """A private copy of the folder of a schema version; `target` must not exist. Returns `target`."""
    shutil.copytree(RELEASES / f"schema-{version:04}", target)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
    return target


def contents(database: Path) -> tuple[int, list[str]]:
    """The schema version of a database and everything in it as SQL. Opens it, so that its log is merged into it."""
    connection = sqlite3.connect(database)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        return version, list(connection.iterdump())
    finally:
        connection.close()
