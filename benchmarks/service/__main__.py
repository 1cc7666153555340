"""`python -m benchmarks.service`: one table of the service's costs on this machine."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.service import parts

PARTS = ("polls", "uploads", "claims", "drawing")


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    arguments.add_argument(
        "--postgresql", help="URL of a database where the command may create and drop a schema"
    )
    arguments.add_argument(
        "--seconds", type=float, default=4.0, help="duration of each of the six rounds of polls"
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
    if part == "polls":
        rows = parts.polls(folder, None, seconds)
    else:
        rows = parts.claims(f"sqlite:///{folder / 'claims.sqlite3'}", "SQLite")
    if postgresql is not None:
        with parts.schema(postgresql) as url:
            rows += parts.polls(folder, url, seconds) if part == "polls" else parts.claims(url, "PostgreSQL")
    return rows


if __name__ == "__main__":
    main()
