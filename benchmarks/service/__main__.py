"""`python -m benchmarks.service`: one table of the service's costs on this machine."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.service import parts
from benchmarks.service.crowd import crowd

PARTS = ("polls", "crowd", "uploads", "claims", "drawing")


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    arguments.add_argument(
        "--postgresql", help="URL of a database where the command may create and drop a schema"
    )
    arguments.add_argument(
        "--seconds", type=float, default=4.0, help="duration of each round of polls and lists"
    )
    given = arguments.parse_args()
    rows: list[parts.Row] = []
    for part in given.only:
        with tempfile.TemporaryDirectory() as folder:
            rows += _measure(part, Path(folder), given.postgresql, given.seconds)
    table = Table("what", "measured")
    for row in rows:
        table.add_row(*row)
    Console(width=130).print(table)
    print(json.dumps(dict(rows)))


def _measure(part: str, folder: Path, postgresql: str | None, seconds: float) -> list[parts.Row]:
    if part == "uploads":
        return parts.uploads(folder)
    if part == "drawing":
        return parts.drawing(folder)
    rows = _measure_on(part, folder, None, seconds)
    if postgresql is not None:
        with parts.schema(postgresql) as url:
            rows += _measure_on(part, folder, url, seconds)
    return rows


def _measure_on(part: str, folder: Path, postgresql: str | None, seconds: float) -> list[parts.Row]:
    """Measure a part on one database: SQLite if no PostgreSQL URL is given."""
    if part == "polls":
        return parts.polls(folder, postgresql, seconds)
    if part == "crowd":
        return crowd(folder, postgresql, seconds)
    if postgresql is not None:
        return parts.claims(postgresql, "PostgreSQL")
    return parts.claims(f"sqlite:///{folder / 'claims.sqlite3'}", "SQLite")


if __name__ == "__main__":
    main()
