"""Loads the named queries of `queries/*.sql` and the numbered migrations of `schema/`.

A query begins with `-- name: word`; comment lines below it are ignored. `columns.expanded` replaces groups of columns
in braces.
"""

from functools import cache
from importlib.resources import files

from relay_queue.sqlite.columns import expanded

_NAME = "-- name: "


@cache
def queries(group: str) -> dict[str, str]:
    """The queries of `queries/<group>.sql` by name."""
    text = (files(__package__) / "queries" / f"{group}.sql").read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for part in text.split(_NAME)[1:]:
        name, _, body = part.partition("\n")
        lines = [line for line in body.splitlines() if line.strip() and not line.startswith("--")]
        assert name not in found, f"two queries named {name}"
        found[name.strip()] = expanded("\n".join(lines))
    return found


@cache
def migrations() -> tuple[str, ...]:
    """The schema scripts in order: script n (from 1) upgrades a database from version n-1 to n."""
    folder = files(__package__) / "schema"
    scripts = sorted((path for path in folder.iterdir() if path.name.endswith(".sql")), key=lambda path: path.name)
    for number, path in enumerate(scripts, 1):
        assert path.name.startswith(f"{number:04}_"), f"{path.name} is out of sequence"
    return tuple(path.read_text(encoding="utf-8") for path in scripts)


def repeated(query: str, times: int) -> str:
    """An INSERT whose VALUES group is repeated `times` times: many rows in one statement, to release the GIL once."""
    head, values = query.split("VALUES ")
    return f"{head}VALUES {', '.join([values.strip()] * times)}"
