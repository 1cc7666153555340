"""Stored concepts. A token is unique for each owner and base model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from zoodip_core.service import stored_objects
from zoodip_core.service.errors import NotFoundError, TokenTakenError
from zoodip_core.service.jobs.states import ACTIVE, JobKind
from zoodip_core.service.pagination import newest_first
from zoodip_core.service.tables import concepts, jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptRecord:
    """A learned or imported concept. Its embedding is in the object store."""

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
    """Store the concept.

    Returns:
        The concept that it replaced, or None.

    Raises:
        TokenTakenError: The token is taken and `replace` is False, or another transaction took it meanwhile.
    """
    previous = find_by_token(connection, concept.owner, concept.base_model, concept.token)
    if previous is not None:
        if not replace:
            raise _taken(previous)
        remove(connection, previous)
    values = {name: getattr(concept, name) for name in ConceptRecord.__dataclass_fields__}
    try:
        connection.execute(insert(concepts).values(**values))
    except IntegrityError as error:  # another transaction took the token after the query above
        raise TokenTakenError(
            f"token {concept.token} is already used by a new concept", field="token"
        ) from error
    return previous


def find_by_token(connection: Connection, owner: str, base_model: str, token: str) -> ConceptRecord | None:
    """Return the owner's concept with this token, or None."""
    query = select(concepts).where(
        concepts.c.owner == owner, concepts.c.base_model == base_model, concepts.c.token == token
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else ConceptRecord(**row)


def find_newest_by_token(connection: Connection, owner: str, token: str) -> ConceptRecord | None:
    """Return the owner's newest concept with this token on any base model, or None."""
    query = select(concepts).where(concepts.c.owner == owner, concepts.c.token == token)
    row = connection.execute(query.order_by(concepts.c.id.desc()).limit(1)).mappings().first()
    return None if row is None else ConceptRecord(**row)


def find_by_tokens(
    connection: Connection, owner: str, base_model: str, tokens: Iterable[str]
) -> dict[str, ConceptRecord]:
    """Return the owner's concepts with these tokens, by token. Unknown tokens are left out."""
    query = select(concepts).where(
        concepts.c.owner == owner, concepts.c.base_model == base_model, concepts.c.token.in_(list(tokens))
    )
    return {row["token"]: ConceptRecord(**row) for row in connection.execute(query).mappings()}


def check_token_available(connection: Connection, owner: str, base_model: str, token: str) -> None:
    """Validate that a new personalization can use this token.

    Raises:
        TokenTakenError: A concept or an unfinished personalization of the owner uses it.
    """
    taken = find_by_token(connection, owner, base_model, token)
    if taken is not None:
        raise _taken(taken)
    _check_not_being_learned(connection, owner, base_model, token)


def _check_not_being_learned(connection: Connection, owner: str, base_model: str, token: str) -> None:
    query = select(jobs.c.id).where(
        jobs.c.owner == owner,
        jobs.c.kind == JobKind.PERSONALIZATION,
        jobs.c.base_model == base_model,
        jobs.c.token == token,
        jobs.c.status.in_(ACTIVE),
    )
    job_id = connection.execute(query.limit(1)).scalar()
    if job_id is not None:
        raise TokenTakenError(f"token {token} is already used by personalization {job_id}", field="token")


def reserved_names(connection: Connection, owner: str) -> set[tuple[str, str]]:
    """Return (base model, token) of each concept and each unfinished personalization of the owner."""
    stored = select(concepts.c.base_model, concepts.c.token).where(concepts.c.owner == owner)
    learning = select(jobs.c.base_model, jobs.c.token).where(
        jobs.c.owner == owner, jobs.c.kind == JobKind.PERSONALIZATION, jobs.c.status.in_(ACTIVE)
    )
    return {(base_model, token) for base_model, token in connection.execute(stored.union(learning))}


def find(connection: Connection, concept_id: str, owner: str | None = None) -> ConceptRecord:
    """Return the concept with this id.

    Raises:
        NotFoundError: The concept does not exist, or belongs to another owner. Both cases look alike to clients.
    """
    row = connection.execute(select(concepts).where(concepts.c.id == concept_id)).mappings().first()
    if row is None or owner not in (None, row["owner"]):
        raise NotFoundError(f"concept {concept_id} does not exist")
    return ConceptRecord(**row)


def exists(connection: Connection, concept_id: str) -> bool:
    """Return whether the concept exists, for any owner."""
    return connection.execute(select(concepts.c.id).where(concepts.c.id == concept_id)).first() is not None


def list_page(
    connection: Connection, owner: str, *, after: str | None = None, limit: int = 20
) -> tuple[list[ConceptRecord], bool]:
    """Return one page of the owner's concepts, newest first.

    Args:
        connection: Any connection.
        owner: Whose concepts.
        after: Id of the last concept of the previous page.
        limit: Largest number of concepts to return.

    Returns:
        The concepts, and whether more follow.
    """
    query = select(concepts).where(concepts.c.owner == owner)
    rows, more = newest_first(connection, query, concepts, after=after, limit=limit)
    return [ConceptRecord(**row) for row in rows], more


def rename(connection: Connection, concept: ConceptRecord, token: str) -> ConceptRecord:
    """Change the token of a concept; return the changed concept.

    Raises:
        TokenTakenError: Another concept or an unfinished personalization of the owner uses the token.
        NotFoundError: The concept was deleted in the meantime.
    """
    if token == concept.token:
        return concept
    other = find_by_token(connection, concept.owner, concept.base_model, token)
    if other is not None:
        message = f"token {token} is already used by concept {other.id}; rename or delete that concept first"
        raise TokenTakenError(message, field="token")
    _check_not_being_learned(connection, concept.owner, concept.base_model, token)
    try:
        changed = connection.execute(
            update(concepts).where(concepts.c.id == concept.id).values(token=token).returning(concepts.c.id)
        ).first()
    except IntegrityError as error:  # another transaction took the token after the queries above
        raise TokenTakenError(f"token {token} is already used by a new concept", field="token") from error
    if changed is None:
        raise NotFoundError(f"concept {concept.id} does not exist")
    return replace(concept, token=token)


def remove(connection: Connection, concept: ConceptRecord) -> None:
    """Delete the row. The caller deletes its objects."""
    connection.execute(delete(concepts).where(concepts.c.id == concept.id))
    stored_objects.remove_of(connection, concept.id)


def _taken(concept: ConceptRecord) -> TokenTakenError:
    return TokenTakenError(
        f"token {concept.token} is already used by concept {concept.id}; set replace to true to replace it",
        field="token",
    )
