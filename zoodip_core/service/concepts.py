"""Concepts by owner, base model and token; a name is one concept's at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import IntegrityError

from zoodip_core.service.errors import NotFoundError, TokenTakenError
from zoodip_core.service.jobs.states import ACTIVE, JobKind
from zoodip_core.service.pagination import newest_first
from zoodip_core.service.tables import concepts, jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptRecord:
    """A learned or imported token; its embedding is in the object store."""

    id: str
    owner: str
    token: str
    kind: str
    base_model: str
    fingerprint: str
    precision: str
    vectors: int
    created_at: float
    from_personalization: str | None


def add(connection: Connection, concept: ConceptRecord, *, replace: bool) -> ConceptRecord | None:
    """Store the concept; the one whose name it took, if there was one.

    Raises:
        TokenTakenError: the name is taken and `replace` is not set.
    """
    previous = named(connection, concept.owner, concept.base_model, concept.token)
    if previous is not None:
        if not replace:
            raise TokenTakenError(f"{concept.token} is the concept {previous.id} already", field="token")
        connection.execute(delete(concepts).where(concepts.c.id == previous.id))
    values = {name: getattr(concept, name) for name in ConceptRecord.__dataclass_fields__}
    try:
        connection.execute(insert(concepts).values(**values))
    except IntegrityError as error:  # another took the name since we looked
        raise TokenTakenError(f"{concept.token} was taken meanwhile", field="token") from error
    return previous


def named(connection: Connection, owner: str, base_model: str, token: str) -> ConceptRecord | None:
    """The owner's concept of that name."""
    query = select(concepts).where(
        concepts.c.owner == owner, concepts.c.base_model == base_model, concepts.c.token == token
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else ConceptRecord(**row)


def named_all(
    connection: Connection, owner: str, base_model: str, tokens: Iterable[str]
) -> dict[str, ConceptRecord]:
    """The owner's concepts among these tokens, by token."""
    query = select(concepts).where(
        concepts.c.owner == owner, concepts.c.base_model == base_model, concepts.c.token.in_(list(tokens))
    )
    return {row["token"]: ConceptRecord(**row) for row in connection.execute(query).mappings()}


def check_free(connection: Connection, owner: str, base_model: str, token: str) -> None:
    """Nothing, if a personalization may learn this name.

    Raises:
        TokenTakenError: a concept or an unfinished personalization of the owner has it.
    """
    taken = named(connection, owner, base_model, token)
    if taken is not None:
        raise TokenTakenError(
            f"{token} is the concept {taken.id} already; replace: true replaces it", field="token"
        )
    query = select(jobs.c.id).where(
        jobs.c.owner == owner,
        jobs.c.kind == JobKind.PERSONALIZATION,
        jobs.c.base_model == base_model,
        jobs.c.token == token,
        jobs.c.status.in_(ACTIVE),
    )
    job_id = connection.execute(query.limit(1)).scalar()
    if job_id is not None:
        raise TokenTakenError(f"{token} is being learned by {job_id}", field="token")


def names_of(connection: Connection, owner: str) -> set[tuple[str, str]]:
    """(base model, token) of each concept that the owner has, or will have when what is being learned succeeds."""
    stored = select(concepts.c.base_model, concepts.c.token).where(concepts.c.owner == owner)
    learning = select(jobs.c.base_model, jobs.c.token).where(
        jobs.c.owner == owner, jobs.c.kind == JobKind.PERSONALIZATION, jobs.c.status.in_(ACTIVE)
    )
    return {(base_model, token) for base_model, token in connection.execute(stored.union(learning))}


def find(connection: Connection, concept_id: str, owner: str | None = None) -> ConceptRecord:
    """The concept of that id, if it is the owner's.

    Raises:
        NotFoundError: there is none, or it is another's (which must not show).
    """
    row = connection.execute(select(concepts).where(concepts.c.id == concept_id)).mappings().first()
    if row is None or owner not in (None, row["owner"]):
        raise NotFoundError(f"no concept {concept_id}")
    return ConceptRecord(**row)


def exists(connection: Connection, concept_id: str) -> bool:
    """Whether there is such a concept, whoever has it."""
    return connection.execute(select(concepts.c.id).where(concepts.c.id == concept_id)).first() is not None


def list_page(
    connection: Connection, owner: str, *, after: str | None = None, limit: int = 20
) -> tuple[list[ConceptRecord], bool]:
    """The owner's concepts, newest first, from below the id `after`; and whether there are more."""
    query = select(concepts).where(concepts.c.owner == owner)
    rows, more = newest_first(connection, query, concepts, after=after, limit=limit)
    return [ConceptRecord(**row) for row in rows], more


def remove(connection: Connection, concept: ConceptRecord) -> None:
    """Delete the row; its objects are the caller's to delete."""
    connection.execute(delete(concepts).where(concepts.c.id == concept.id))
