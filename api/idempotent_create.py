"""Idempotent creation: a request with an Idempotency-Key creates its resource at most once."""

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
        description="Requests with the same key within 24 h replay the first response",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Creation:
    """A pending creation: its objects are already stored; its database row is not written yet.

    Attributes:
        insert_row: writes the row and returns the response. Runs in a transaction that holds the creation lock.
        row_exists: whether the row was committed. Asked when the reply to the commit is lost.
        discard_objects: deletes the stored objects if the row is not created.
        after_commit: runs once the row is committed.
    """

    insert_row: Callable[[Connection], StoredResponse]
    row_exists: Callable[[Connection], bool]
    discard_objects: Callable[[], None] = lambda: None
    after_commit: Callable[[StoredResponse], None] = lambda _: None


@dataclass(frozen=True)
class IdempotentCreate:
    """Runs a creating request at most once for each idempotency key.

    Attributes:
        caller: client of the request.
        route: method and path. The same key on another route is a different request.
        key: the Idempotency-Key; None or empty runs the request each time.
        request_hash: hash of the content, which detects reuse of a key for a different request.
    """

    caller: Caller
    route: str
    key: str | None
    request_hash: str

    def run(self, prepare: Callable[[], Creation]) -> Response:
        """Create the resource, or replay the stored response of an earlier request with the same key.

        One transaction writes the row and the stored response.

        Args:
            prepare: validates the request and stores its objects. Not called for a replay.

        Raises:
            IdempotencyMismatchError: The key was used with a different request.
            IdempotencyInFlightError: A request with this key is still in progress.
        """
        database = self.caller.service.database
        record = self._record()
        if record is not None:
            with database.write() as connection:
                stored = idempotency.begin(connection, record)
            if stored is not None:
                return _respond(stored, replayed=True)
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

    def replay(self) -> Response | None:
        """Return the stored response to an earlier request with the same key; None if there is none, or not yet.

        Raises:
            IdempotencyMismatchError: The key was used with a different request.
        """
        record = self._record()
        if record is None:
            return None
        with self.caller.service.database.read() as connection:
            stored = idempotency.find(connection, record)
        return None if stored is None else _respond(stored, replayed=True)

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
                response = created  # after this line only the commit can fail
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
        """Return whether the row was committed.

        If the database is unavailable, the error propagates and the objects stay. If the row was not committed, the
        daily orphan cleanup deletes them.
        """
        with self.caller.service.database.write() as connection:
            acquire_creation_lock(connection)  # waits for a commit that is still in progress
            return creation.row_exists(connection)


def _discard(creation: Creation) -> None:
    with suppress(StorageError):  # the daily orphan cleanup retries
        creation.discard_objects()


def hash_request(request: dict[str, Any], digests: list[str]) -> str:
    """Return the SHA-256 of a parsed request and its files. Multipart boundaries do not change it.

    Args:
        request: the parsed fields.
        digests: SHA-256 of each uploaded file.
    """
    content = json.dumps([request, digests], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()


def check_job_quota(connection: Connection, caller: Caller) -> None:
    """Validate that the caller may queue one more job.

    Raises:
        QuotaExceededError: The key has reached its quota of unfinished jobs.
        QueueFullError: The service has reached its limit of unfinished jobs.
    """
    limit = None if caller.key is None else caller.key.max_active_jobs
    if limit is not None and store.count_active(connection, caller.owner) >= limit:
        raise QuotaExceededError(f"This API key has reached its quota of {limit} unfinished jobs.")
    if store.count_active(connection) >= caller.service.settings.max_queued:
        raise QueueFullError()


def check_concept_quota(connection: Connection, caller: Caller, base_model: str, token: str) -> None:
    """Validate that the caller may have a concept with this token. Replacing an existing concept needs no quota.

    Raises:
        QuotaExceededError: The key has reached its quota of concepts. Unfinished personalizations count.
    """
    limit = None if caller.key is None else caller.key.max_concepts
    if limit is None:
        return
    names = concepts.reserved_names(connection, caller.owner)
    if len(names | {(base_model, token)}) > max(limit, len(names)):
        raise QuotaExceededError(
            f"This API key has reached its quota of {limit} concepts; unfinished personalizations count."
        )


def _respond(response: StoredResponse, *, replayed: bool) -> Response:
    headers = dict(response.headers)
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(json.dumps(response.body), response.status_code, headers, media_type="application/json")
