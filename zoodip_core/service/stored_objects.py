"""Sizes of the stored objects of each owner, for usage and quotas.

Each row is written or deleted in the transaction that records or forgets its object. Files that a client uploads for
later jobs expire within a day and have no row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, delete, func, select

from zoodip_core.service.database import dialect_insert
from zoodip_core.service.object_store import resource_id
from zoodip_core.service.tables import jobs, stored_objects


def add(connection: Connection, owner: str, key_id: str, sizes: Mapping[str, int]) -> None:
    """Record stored objects. One of the same name replaces its predecessor.

    Args:
        connection: Write transaction.
        owner: Whose objects.
        key_id: API key that the objects count for; empty without a key.
        sizes: Bytes of each object, by name.
    """
    if not sizes:
        return
    rows = [
        {"name": name, "resource_id": resource_id(name), "owner": owner, "key_id": key_id, "bytes": size}
        for name, size in sorted(sizes.items())
    ]
    new = dialect_insert(connection, stored_objects).values(rows)
    connection.execute(
        new.on_conflict_do_update(
            index_elements=[stored_objects.c.name], set_={stored_objects.c.bytes: new.excluded.bytes}
        )
    )


def add_of_job(connection: Connection, job_id: str, sizes: Mapping[str, int]) -> None:
    """Record objects that a job has stored. Does nothing if the job no longer exists."""
    if not sizes:
        return
    row = connection.execute(select(jobs.c.owner, jobs.c.key_id).where(jobs.c.id == job_id)).first()
    if row is not None:
        add(connection, *row, sizes)


def remove(connection: Connection, names: Iterable[str]) -> None:
    """Forget objects that are deleted."""
    found = sorted(names)
    if found:
        connection.execute(delete(stored_objects).where(stored_objects.c.name.in_(found)))


def remove_of(connection: Connection, resource: str) -> None:
    """Forget all objects of a job or a concept."""
    connection.execute(delete(stored_objects).where(stored_objects.c.resource_id == resource))


def total_bytes(connection: Connection, owner: str) -> int:
    """Return the bytes of all objects of an owner."""
    query = select(func.coalesce(func.sum(stored_objects.c.bytes), 0)).where(stored_objects.c.owner == owner)
    return int(connection.execute(query).scalar_one())


def bytes_by_key(connection: Connection, owner: str) -> dict[str, int]:
    """Return the bytes of an owner's objects by the API key that they count for."""
    query = select(stored_objects.c.key_id, func.sum(stored_objects.c.bytes))
    rows = connection.execute(query.where(stored_objects.c.owner == owner).group_by(stored_objects.c.key_id))
    return {key_id: int(size) for key_id, size in rows}


def total_bytes_by_owner(connection: Connection) -> dict[str, int]:
    """Return the bytes of all objects of each owner who has any."""
    query = select(stored_objects.c.owner, func.sum(stored_objects.c.bytes)).group_by(stored_objects.c.owner)
    return {owner: int(size) for owner, size in connection.execute(query)}
