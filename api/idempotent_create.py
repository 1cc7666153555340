"""Creation something once: Idempotency-Key around a transaction."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Header, Response
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from api.auth import Caller
from zoodip_core.errors import StorageError
from zoodip_core.service import concepts, idempotency
from zoodip_core.service.database import acquire_creation_lock
from zoodip_core.service.errors import QueueFullError, QuotaExceededError
from zoodip_core.service.idempotency import IdempotencyRecord, StoredResponse
from zoodip_core.service.jobs import store

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=255,
        description="The same key replays the first response for 24 h",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Creation:
    """How a thing comes to be: its bytes are stored already, its row is to be written."""

    insert_row: Callable[
        [Connection], StoredResponse
    ]  # in a transaction, alone among those that make something
    row_exists: Callable[
        [Connection], bool
    ]  # whether the row was written, where the commit's response was lost
    discard_objects: Callable[[], None] = lambda: None  # drop the bytes of what does not come to be
    after_commit: Callable[[StoredResponse], None] = lambda _: None  # once it is created


@dataclass(frozen=True)
class IdempotentCreate:
    """A request that must have one effect, however often it comes."""

    caller: Caller
    route: str
    key: str | None
    request_hash: str

    def run(self, prepare: Callable[[], Creation]) -> Response:
        """The response of what `prepare` prepares, or the one that the same request got before.

        The thing created and the stored response come to be together or not at all.
        """
        database = self.caller.service.database
        record = self._record()
        if record is not None:
            with database.write() as connection:
                before = idempotency.begin(connection, record)
            if before is not None:
                return _respond(before, replayed=True)
        try:
            creation = prepare()
            response = self._create(creation, record)
        except BaseException:
            if record is not None:
                with suppress(DBAPIError), database.write() as connection:
                    idempotency.abandon(connection, record)
            raise
        creation.after_commit(response)
        return _respond(response, replayed=False)

    def _record(self) -> IdempotencyRecord | None:
        if not self.key:
            return None
        return IdempotencyRecord(
            owner=self.caller.owner,
            route=self.route,
            key=self.key,
            request_hash=self.request_hash,
            began_at=time.time(),
        )

    def _create(self, creation: Creation, record: IdempotencyRecord | None) -> StoredResponse:
        database = self.caller.service.database
        response = None
        try:
            with database.write() as connection:
                acquire_creation_lock(connection)
                created = creation.insert_row(connection)
                if record is not None:
                    idempotency.finish(connection, record, created)
                response = created  # from here on only the commit's response can be lost
        except DBAPIError:
            if response is not None and self._was_created(creation):
                return response
            _discard(creation)
            raise
        except BaseException:
            _discard(creation)
            raise
        return response

    def _was_created(self, creation: Creation) -> bool:
        """Whether the commit happened; while the database is away it may have: the bytes stay, for the daily look."""
        with self.caller.service.database.write() as connection:
            acquire_creation_lock(connection)  # which waits for a commit that is still under way
            return creation.row_exists(connection)


def _discard(creation: Creation) -> None:
    with suppress(StorageError):  # what stays is dropped by the daily look
        creation.discard_objects()


def hash_of(request: dict[str, Any], digests: list[str]) -> str:
    """Of the parsed request and the SHA-256 of each file: a multipart boundary is not content."""
    content = json.dumps([request, digests], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()


def check_room(connection: Connection, caller: Caller) -> None:
    """Nothing, if one more job may be queued.

    Raises:
        QuotaExceededError: the key has as many unfinished jobs as it may.
        QueueFullError: the service has.
    """
    limit = None if caller.key is None else caller.key.max_active_jobs
    if limit is not None and store.count_active(connection, caller.owner) >= limit:
        raise QuotaExceededError(f"this API key may have {limit} unfinished jobs, and has them")
    if store.count_active(connection) >= caller.service.settings.max_queued:
        raise QueueFullError()


def check_names(connection: Connection, caller: Caller, base_model: str, token: str) -> None:
    """Nothing, if the caller may have a concept of that name: one more, or in place of the one that has it.

    Raises:
        QuotaExceededError: the key has as many as it may, those that are being learned included.
    """
    limit = None if caller.key is None else caller.key.max_concepts
    if limit is None:
        return
    names = concepts.reserved_names(connection, caller.owner)
    if len(names | {(base_model, token)}) > max(limit, len(names)):
        raise QuotaExceededError(f"this API key may have {limit} concepts, and has or learns them")


def _respond(response: StoredResponse, *, replayed: bool) -> Response:
    headers = dict(response.headers)
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(json.dumps(response.body), response.status_code, headers, media_type="application/json")
