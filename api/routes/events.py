"""Server-sent events of a personalization: replayed from the database, then followed until its end."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.auth import Caller, Reader, is_still_open
from api.problems import problems
from api.requests.parameters import Id
from api.service import Service
from zoodip_core.service.errors import NotFoundError
from zoodip_core.service.jobs import events, store
from zoodip_core.service.jobs.records import Event, Job
from zoodip_core.service.jobs.states import ENDED, JobKind

router = APIRouter(prefix="/v1/personalizations", tags=["personalizations"])

PING_EVERY_S = 15.0
_LOOK_EVERY_S = 0.25


@router.get(
    "/{id}/events",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Events until the job's end"},
        204: {"description": "The job has ended and all its events were seen"},
        **problems(404),
    },
)
async def follow(
    request: Request,
    caller: Reader,
    id: Id,
    last_event_id: Annotated[str | None, Header(pattern=r"^\d{1,18}$")] = None,
) -> Response:
    """`progress`, `preview`, `checkpoint` and `status` events; `Last-Event-ID` replays what came after."""
    seen = int(last_event_id or 0)
    job, first = await run_in_threadpool(_look, caller.service, id, seen, caller.owner)
    if job.ended and not first and last_event_id is not None:
        return Response(status_code=204)  # tells an EventSource to stop asking
    stream = _stream(request, caller, job, first, seen)
    return StreamingResponse(
        stream,
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _look(service: Service, job_id: str, seen: int, owner: str) -> tuple[Job, list[Event]]:
    with service.database.read() as connection:
        job = store.find(connection, job_id, owner=owner, kind=JobKind.PERSONALIZATION)  # before the events:
        return job, events.after(connection, job_id, seen)  # an end seen here has its event seen there


async def _look_again(
    request: Request, caller: Caller, job: Job, seen: int
) -> tuple[Job, list[Event] | None] | None:
    """The job as it is now with its new events, which are None while the database is away.

    None in all once there is nothing more to tell: the job is deleted, the key revoked, or the client gone.
    """
    try:
        if await request.is_disconnected() or not await is_still_open(request, caller):
            return None
        return await run_in_threadpool(_look, caller.service, job.id, seen, caller.owner)
    except NotFoundError:
        return None
    except (OperationalError, InterfaceError, PoolTimeoutError):
        return job, None


async def _stream(
    request: Request, caller: Caller, job: Job, found: list[Event] | None, seen: int
) -> AsyncIterator[str]:
    service, told_end = caller.service, False
    spoke = time.monotonic()
    yield "retry: 2000\n\n"
    with service.job_watcher.follow(job.id, look_every_s=_LOOK_EVERY_S) as follower:
        while True:
            for event in found or ():
                yield _format(service, event)
                seen = event.id
                told_end = told_end or (event.type == "status" and event.data["status"] in ENDED)
                spoke = time.monotonic()
            if job.ended and found == []:
                if not told_end:  # its events went with age
                    yield f"event: status\ndata: {json.dumps({'status': job.status})}\n\n"
                return
            if not found:
                if time.monotonic() - spoke > PING_EVERY_S:
                    yield ": ping\n\n"
                    spoke = time.monotonic()
                await follower.wait()
            again = await _look_again(request, caller, job, seen)
            if again is None:
                return
            job, found = again


def _format(service: Service, event: Event) -> str:
    data = event.data
    if event.type == "preview":
        url = f"{service.settings.public_url}/v1/personalizations/{event.job_id}/previews/{data['step']}.png"
        data = {**data, "url": url}
    return f"id: {event.id}\nevent: {event.type}\ndata: {json.dumps(data)}\n\n"
