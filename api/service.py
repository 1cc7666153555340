"""What the routes work with: settings, database, objects, catalogue, broker."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Annotated

from celery import Celery
from fastapi import Depends, Request

from api.base_models import BaseModels
from api.job_watcher import JobWatcher
from api.key_cache import KeyCache
from api.rate_limits import RateLimits
from api.status_batcher import StatusBatcher
from zoodip_core.base_models.catalog import Catalog
from zoodip_core.service import api_keys
from zoodip_core.service.broker import celery_app, wake
from zoodip_core.service.database import Database
from zoodip_core.service.job_notifications import ChangePublisher
from zoodip_core.service.jobs.states import JobKind
from zoodip_core.service.object_store import ObjectStore
from zoodip_core.service.settings import ServiceSettings

_DECODERS = 1  # images decoded at a time: what one needs is all that uploads add to memory


@dataclass
class Service:
    """One API process."""

    settings: ServiceSettings
    database: Database
    objects: ObjectStore
    base_models: BaseModels
    celery: Celery
    key_cache: KeyCache
    limits: RateLimits
    status_batcher: StatusBatcher
    job_watcher: JobWatcher
    change_publisher: ChangePublisher | None
    decoders: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(_DECODERS)
    )

    def wake(self, kind: JobKind, job_id: str) -> None:
        """Tell the workers; if the broker is away they find the row by themselves."""
        wake(self.celery, kind, job_id)

    async def close(self) -> None:
        """Close what it is connected to."""
        await self.key_cache.close()
        await self.limits.close()
        await self.status_batcher.close()
        self.database.close()
        if self.change_publisher is not None:
            self.change_publisher.close()


def start(settings: ServiceSettings) -> Service:
    """Connect to everything and bring the tables up to date.

    Raises:
        ZoodipError: the catalogue or the object store cannot be used.
    """
    sender = None if settings.redis_url is None else ChangePublisher(settings.redis_url)
    database = Database(settings.database, on_change=None if sender is None else sender.send)
    database.migrate()
    with database.write() as connection:
        api_keys.ensure_bootstrap_key(connection, settings, time.time())
    return Service(
        settings=settings,
        database=database,
        objects=ObjectStore(settings.object_store),
        base_models=BaseModels(Catalog.load(settings.base_models)),
        celery=celery_app(settings),
        key_cache=KeyCache(database),
        limits=RateLimits(settings.redis_url),
        status_batcher=StatusBatcher(database),
        job_watcher=JobWatcher(settings.redis_url),
        change_publisher=sender,
    )


async def service_of(request: Request) -> Service:
    """The service of the running application."""
    service: Service = request.app.state.service
    return service


InService = Annotated[Service, Depends(service_of)]
