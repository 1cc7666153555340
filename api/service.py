"""Shared state of one API process: settings, database, object store, catalog and broker."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

from celery import Celery
from fastapi import Depends, Request

from api.base_models import BaseModels
from api.decoding.decoder import DecodeLimits
from api.decoding.pool import DecoderPool
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


@dataclass
class Service:
    """State of one API process, shared by all requests."""

    settings: ServiceSettings
    database: Database
    objects: ObjectStore
    base_models: BaseModels
    celery: Celery
    key_cache: KeyCache
    rate_limits: RateLimits
    status_batcher: StatusBatcher
    job_watcher: JobWatcher
    change_publisher: ChangePublisher | None
    decoders: DecoderPool

    def wake(self, kind: JobKind, job_id: str) -> None:
        """Notify the workers of a queued job. If the broker is unavailable, they find the row when they poll."""
        wake(self.celery, kind, job_id)

    async def close(self) -> None:
        """Close all connections."""
        await self.key_cache.close()
        await self.rate_limits.close()
        await self.status_batcher.close()
        self.decoders.close()
        self.database.close()
        if self.change_publisher is not None:
            self.change_publisher.close()


def start_service(settings: ServiceSettings) -> Service:
    """Open all connections and migrate the database.

    Raises:
        ZoodipError: The catalog or the object store cannot be used.
    """
    publisher = None if settings.redis_url is None else ChangePublisher(settings.redis_url)
    database = Database(settings.database, on_change=None if publisher is None else publisher.send)
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
        rate_limits=RateLimits(settings.redis_url),
        status_batcher=StatusBatcher(database),
        job_watcher=JobWatcher(settings.redis_url),
        change_publisher=publisher,
        decoders=DecoderPool(
            settings.decoders,
            DecodeLimits(settings.image_limits, settings.decode_timeout_s, settings.max_decode_mb),
        ),
    )


async def service_of(request: Request) -> Service:
    """Return the service of the running application."""
    service: Service = request.app.state.service
    return service


CurrentService = Annotated[Service, Depends(service_of)]
