"""Meter of a claimed job: U-Net evaluations, engine time, images, and the sizes of its objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection

from zoodip_core.service import stored_objects, usage
from zoodip_core.service.jobs.records import Job, Lease
from zoodip_core.service.usage import Usage


class UsageMeter:
    """Counts what one job uses. `LeasedWriter` writes it together with the job's progress.

    `total` starts with what earlier attempts have recorded. What an attempt used after its last record is lost with
    its worker.
    """

    def __init__(self, job: Job) -> None:
        self.total = Usage(job.used_evaluations, job.used_seconds, job.used_images)
        self._written = self.total
        self._objects: dict[str, int | None] = {}  # bytes of a stored object; None: deleted

    def add(self, *, evaluations: int = 0, seconds: float = 0.0, images: int = 0) -> None:
        """Add engine work."""
        used = self.total
        self.total = Usage(used.evaluations + evaluations, used.seconds + seconds, used.images + images)

    def record_put(self, name: str, size: int) -> None:
        """Count an object of `size` bytes that was stored."""
        self._objects[name] = size

    def record_deletion(self, names: Iterable[str]) -> None:
        """Stop counting objects that are deleted."""
        self._objects |= dict.fromkeys(names)

    def as_json(self) -> dict[str, Any]:
        """Return the total as the result of the job shows it."""
        used = self.total
        return {
            "evaluations": used.evaluations,
            "seconds": round(used.seconds, 3),
            "images": used.images,
        }

    def write(self, connection: Connection, lease: Lease, now: float) -> None:
        """Write what is not written yet. Call `mark_written` once the transaction is committed; repeat it if not."""
        if self.total != self._written:
            usage.record(connection, lease, self.total, now)
        sizes = {name: size for name, size in self._objects.items() if size is not None}
        stored_objects.add_of_job(connection, lease.job_id, sizes)
        stored_objects.remove(connection, self._objects.keys() - sizes.keys())

    def mark_written(self) -> None:
        """Note that the last `write` is committed."""
        self._written = self.total
        self._objects.clear()
