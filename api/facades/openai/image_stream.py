"""Server-sent events of `POST /v1/images/generations` with `stream`."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from api.auth import Caller, is_still_authorized
from api.facades.drawing import MAX_WAIT_S, cancelled_on_error, check_drawn, deadline_exceeded
from api.facades.errors import ERRORS, rendered
from api.facades.openai.errors import render
from api.facades.openai.image_request import ImageRequest
from api.facades.openai.image_response import completed_events, partial_event
from api.generation_wait import POLL_EVERY_S
from zoodip_core.service.errors import NotFoundError, UnauthorizedError
from zoodip_core.service.jobs.records import JobSnapshot
from zoodip_core.service.jobs.states import JobKind
from zoodip_core.service.object_store import partial_name

PING_EVERY_S = 15.0


async def image_events(
    request: Request, caller: Caller, job_id: str, body: ImageRequest
) -> AsyncIterator[str]:
    """Yield the events of a generation until its images are drawn. If the client disconnects, cancel it."""
    try:
        async with cancelled_on_error(caller, job_id):
            async for event in _events(request, caller, job_id, body):
                yield event
    except ERRORS as error:  # the status 200 is sent, so the error is an event
        response = await rendered(request, error, render)
        yield f"event: error\ndata: {bytes(response.body).decode()}\n\n"


async def _events(request: Request, caller: Caller, job_id: str, body: ImageRequest) -> AsyncIterator[str]:
    service = caller.service
    started_at = sent_at = time.monotonic()
    partials_sent = 0
    with service.job_watcher.follow(job_id, poll_interval_s=POLL_EVERY_S) as subscription:
        while True:
            await subscription.wait()
            job = await service.status_batcher.find(job_id, caller.owner, JobKind.GENERATION)
            now = time.monotonic()
            if body.partials > partials_sent and job.step > 0:
                for event in await run_in_threadpool(_partials, caller, job, body, partials_sent):
                    yield _formatted(event)
                    partials_sent, sent_at = event["partial_image_index"] + 1, now
            if job.ended:
                break
            if now - started_at > MAX_WAIT_S:
                raise deadline_exceeded()
            if now - sent_at > PING_EVERY_S:
                if not await is_still_authorized(request, caller):
                    raise UnauthorizedError
                yield ": ping\n\n"
                sent_at = now
    check_drawn(job)
    for event in await run_in_threadpool(completed_events, caller, job, body):
        yield _formatted(event)


def _partials(caller: Caller, job: JobSnapshot, body: ImageRequest, first: int) -> list[dict[str, Any]]:
    """Return the events of the partial images from index `first` on that are stored."""
    found = []
    with suppress(NotFoundError):  # the next one is not drawn yet
        for index in range(first, body.partials):
            png = caller.service.objects.get(partial_name(job.id, index))
            found.append(partial_event(job, body, png, index))
    return found


def _formatted(event: dict[str, Any]) -> str:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
