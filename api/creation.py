"""Making something once: Idempotency-Key around a transaction."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Header, Response
from sqlalchemy import Connection

from api.auth import Caller
from zoodip_core.jobs import concepts, idempotency, store
from zoodip_core.jobs.errors import QueueFullError, QuotaExceededError
from zoodip_core.jobs.idempotency import Answer, Ticket

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", max_length=255, description="The same key replays the first answer for 24 h"
    ),
]


@dataclass(frozen=True)
class Once:
    """A request that must have one effect, however often it comes."""

    caller: Caller
    route: str
    key: str | None
    request_hash: str

    def run(
        self, make: Callable[[], Callable[[Connection], Answer]], then: Callable[[Answer], None] | None = None
    ) -> Response:
        """The answer of `make`, or the one that the same request got before.

        `make` prepares outside of a transaction and returns what is to be done inside one, so that the thing
        made and the stored answer come to be together or not at all. `then` follows what was made anew.
        """
        database = self.caller.service.database
        ticket = None if self.key is None else Ticket(owner=self.caller.owner, route=self.route, key=self.key)
        if ticket is not None:
            with database.write() as connection:
                before = idempotency.begin(connection, ticket, self.request_hash, time.time())
            if before is not None:
                return _respond(before, replayed=True)
        try:
            act = make()
            with database.write() as connection:
                answer = act(connection)
                if ticket is not None:
                    idempotency.finish(connection, ticket, answer)
        except BaseException:
            if ticket is not None:
                with database.write() as connection:
                    idempotency.abandon(connection, ticket)
            raise
        if then is not None:
            then(answer)
        return _respond(answer, replayed=False)


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
    names = concepts.names_of(connection, caller.owner)
    if len(names | {(base_model, token)}) > max(limit, len(names)):
        raise QuotaExceededError(f"this API key may have {limit} concepts, and has or learns them")


def _respond(answer: Answer, *, replayed: bool) -> Response:
    headers = dict(answer.headers)
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(json.dumps(answer.body), answer.status_code, headers, media_type="application/json")
