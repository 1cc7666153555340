"""Wait for a generation without occupying a thread."""

from __future__ import annotations

import anyio

from api.service import Service
from zoodip_core.service.jobs.records import JobSnapshot
from zoodip_core.service.jobs.states import JobKind

POLL_EVERY_S = 0.1


async def wait_until_ended(service: Service, owner: str, job_id: str, wait_s: float) -> JobSnapshot | None:
    """Return the generation once it has ended, or None if it does not end within `wait_s` seconds.

    Raises:
        NotFoundError: The owner has no such generation.
        OperationalError: The database is unavailable.
    """
    with (
        anyio.move_on_after(wait_s),
        service.job_watcher.follow(job_id, poll_interval_s=POLL_EVERY_S) as subscription,
    ):
        while True:
            await subscription.wait()
            found = await service.status_batcher.find(job_id, owner, JobKind.GENERATION)
            if found.ended:
                return found
    return None
