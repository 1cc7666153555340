"""Cursor pagination of tables whose ids sort by creation time."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, RowMapping, Select, Table


def newest_first(
    connection: Connection, query: Select[Any], table: Table, *, after: str | None, limit: int
) -> tuple[list[RowMapping], bool]:
    """Return one page of a query's rows, newest first.

    Args:
        connection: Any connection.
        query: The rows to page through.
        table: The table of the query.
        after: Id of the last row of the previous page; None for the first page.
        limit: Largest number of rows to return.

    Returns:
        The rows, and whether more follow.
    """
    if after is not None:
        query = query.where(table.c.id < after)
    rows = connection.execute(query.order_by(table.c.id.desc()).limit(limit + 1)).mappings().all()
    return list(rows[:limit]), len(rows) > limit
