"""Pages of a table whose ids sort by the time of their making."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, RowMapping, Select, Table


def newest_first(
    connection: Connection, query: Select[Any], table: Table, *, after: str | None, limit: int
) -> tuple[list[RowMapping], bool]:
    """The query's rows, newest first, from below the id `after`, at most `limit`; and whether there are more."""
    if after is not None:
        query = query.where(table.c.id < after)
    rows = connection.execute(query.order_by(table.c.id.desc()).limit(limit + 1)).mappings().all()
    return list(rows[:limit]), len(rows) > limit
