"""Server-sent events of a job: replays stored events, then follows new ones until the job ends."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.auth import Caller, Reader, is_still_authorized
from api.problems import problems
from api.requests.parameters import Id
from api.service import Service
from zoodip_core.service.errors import NotFoundError
from zoodip_core.service.jobs import events, store
from zoodip_core.service.jobs.records import Event, Job
from zoodip_core.service.jobs.states import ENDED, JobKind

router = APIRouter()

PING_EVERY_S = 15.0
_POLL_EVERY_S = 0.25


_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Events until the job ends"},
    204: {"description": "The job has ended and there are no events after `Last-Event-ID`"},
    **problems(404),
}
_LastEventId = Annotated[
    str | None, Header(pattern=r"^\d{1,18}$", description="Id of the last event that the client received")
]


@router.get(
    "/v1/personalizations/{id}/events",
    summary="Stream events of a personalization",
    tags=["personalizations"],
    response_class=StreamingResponse,
    responses=_RESPONSES,
)
async def follow_personalization(
    request: Request, caller: Reader, id: Id, last_event_id: _LastEventId = None
) -> Response:
    """Stream `progress`, `preview`, `preview_withheld`, `checkpoint`, `warning` and `status` events.

    `Last-Event-ID` resumes after that event.
    """
    return await _follow(request, caller, JobKind.PERSONALIZATION, id, int(last_event_id or 0))


@router.get(
    "/v1/generations/{id}/events",
    summary="Stream events of a generation",
    tags=["generations"],
    response_class=StreamingResponse,
    responses=_RESPONSES,
)
async def follow_generation(
    request: Request, caller: Reader, id: Id, last_event_id: _LastEventId = None
) -> Response:
    """Stream `progress` and `status` events. `Last-Event-ID` resumes after that event."""
    return await _follow(request, caller, JobKind.GENERATION, id, int(last_event_id or 0))


async def _follow(request: Request, caller: Caller, kind: JobKind, job_id: str, seen: int) -> Response:
    job, first = await run_in_threadpool(_read, caller, kind, job_id, seen)
    if job.ended and not first and seen:
        return Response(status_code=204)  # makes an EventSource stop reconnecting
    stream = _stream(request, caller, job, first, seen)
    return StreamingResponse(
        stream,
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _read(caller: Caller, kind: JobKind, job_id: str, seen: int) -> tuple[Job, list[Event]]:
    with caller.service.database.read() as connection:
        # Read the job before its events: if the job has ended, its last event is already stored.
        job = store.find(connection, job_id, owner=caller.owner, kind=kind)
        return job, events.after(connection, job_id, seen)


async def _read_again(
    request: Request, caller: Caller, job: Job, seen: int
) -> tuple[Job, list[Event] | None] | None:
    """Return the current job and its new events. The events are None while the database is unavailable.

    Returns None to end the stream: the job is deleted, the key is revoked, or the client has disconnected.
    """
    try:
        if await request.is_disconnected() or not await is_still_authorized(request, caller):
            return None
        return await run_in_threadpool(_read, caller, job.kind, job.id, seen)
    except NotFoundError:
        return None
    except (OperationalError, InterfaceError, PoolTimeoutError):
        return job, None


async def _stream(
    request: Request, caller: Caller, job: Job, found: list[Event] | None, seen: int
) -> AsyncIterator[str]:
    service, end_sent = caller.service, False
    sent_at = time.monotonic()
    yield "retry: 2000\n\n"
    with service.job_watcher.follow(job.id, poll_interval_s=_POLL_EVERY_S) as subscription:
        while True:
            for event in found or ():
                yield _format(service, event)
                seen = event.id
                end_sent = end_sent or (event.type == "status" and event.data["status"] in ENDED)
                sent_at = time.monotonic()
            if job.ended and found == []:
                if not end_sent:  # retention has deleted its events
                    yield f"event: status\ndata: {json.dumps({'status': job.status})}\n\n"
                return
            if not found:
                if time.monotonic() - sent_at > PING_EVERY_S:
                    yield ": ping\n\n"
                    sent_at = time.monotonic()
                await subscription.wait()
            current = await _read_again(request, caller, job, seen)
            if current is None:
                return
            job, found = current


def _format(service: Service, event: Event) -> str:
    data = event.data
    if event.type == "preview":
        url = f"{service.settings.public_url}/v1/personalizations/{event.job_id}/previews/{data['step']}.png"
        data = {**data, "url": url}
    return f"id: {event.id}\nevent: {event.type}\ndata: {json.dumps(data)}\n\n"
