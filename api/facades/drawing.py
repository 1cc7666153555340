"""Generations that one request creates and waits for. If the client disconnects, the generation is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from api.auth import Caller
from api.facades.errors import JobFailedError
from api.generation_wait import wait_until_ended
from api.owned_jobs import change_job
from zoodip_core.errors import ZoodipError
from zoodip_core.service.errors import ConflictError
from zoodip_core.service.jobs import store
from zoodip_core.service.jobs.records import JobSnapshot
from zoodip_core.service.jobs.states import JobKind, Status
from zoodip_core.service.object_store import image_name

MAX_WAIT_S = 600.0
"""Longest time that a request waits for its images: the default timeout of OpenAI's clients."""


def job_id_of(created: Response) -> str:
    """Return the id of the job that a creation has answered with."""
    return created.headers["Location"].rpartition("/")[2]


async def wait_for_images(request: Request, caller: Caller, job_id: str) -> JobSnapshot:
    """Return the generation once its images are drawn. Cancel it if the client disconnects or the wait is too long.

    Raises:
        JobFailedError: The generation failed.
        ConflictError: The generation was cancelled.
        HTTPException: 504 at the deadline; 400 if the client has disconnected.
    """
    async with cancelled_on_error(caller, job_id):
        waiting = asyncio.ensure_future(wait_until_ended(caller.service, caller.owner, job_id, MAX_WAIT_S))
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise HTTPException(400, "The client disconnected.")
            job = waiting.result()
        finally:
            waiting.cancel()
            gone.cancel()
        if job is None:
            raise deadline_exceeded()
        check_drawn(job)
        return job


@asynccontextmanager
async def cancelled_on_error(caller: Caller, job_id: str) -> AsyncIterator[None]:
    """Cancel the generation if the block raises an exception. One that has ended does not change."""
    try:
        yield
    except BaseException:
        with anyio.CancelScope(shield=True), suppress(ZoodipError, SQLAlchemyError):
            await run_in_threadpool(change_job, caller, JobKind.GENERATION, job_id, store.cancel)
        raise


def deadline_exceeded() -> HTTPException:
    """Return the error of a generation that takes too long for one request."""
    return HTTPException(
        504, f"The images were not ready within {MAX_WAIT_S:g} s; the generation is cancelled."
    )


def check_drawn(job: JobSnapshot) -> None:
    """Validate that an ended generation has images.

    Raises:
        JobFailedError: The generation failed.
        ConflictError: The generation was cancelled.
    """
    if job.error is not None:
        raise JobFailedError(job.error["code"], job.error["message"])
    if job.status != Status.SUCCEEDED:
        raise ConflictError("the generation was cancelled")


def read_images(caller: Caller, job: JobSnapshot) -> list[bytes]:
    """Return the PNG files of a succeeded generation.

    Raises:
        NotFoundError: Retention has deleted the images.
        StorageError: The object store is unavailable.
    """
    seeds = (job.result or {})["seeds"]
    return [caller.service.objects.get(image_name(job.id, index)) for index in range(len(seeds))]


async def _disconnected(request: Request) -> None:
    """Return when the client has disconnected. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
