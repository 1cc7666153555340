"""Shared state of one API process: settings, database, object store, catalog and broker."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.base_models import BaseModels
from api.decoding.decoder import DecodeLimits
from api.decoding.pool import DecoderPool
from api.image_downloads import ImageDownloads
from api.job_watcher import JobWatcher
from api.key_cache import KeyCache
from api.rate_limits import RateLimits
from api.requests.upload_slots import UploadSlots
from api.status_batcher import StatusBatcher
from zoodip_core.base_models.catalog import Catalog
from zoodip_core.service import api_keys
from zoodip_core.service.broker import WakeUpPublisher, celery_app
from zoodip_core.service.database import Database
from zoodip_core.service.job_notifications import ChangePublisher
from zoodip_core.service.jobs.queue_order import QueueOrder
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
    key_cache: KeyCache
    rate_limits: RateLimits
    queue_order: QueueOrder
    status_batcher: StatusBatcher
    job_watcher: JobWatcher
    wake_up_publisher: WakeUpPublisher
    change_publisher: ChangePublisher | None
    upload_slots: UploadSlots
    decoders: DecoderPool
    image_downloads: ImageDownloads

    def wake(self, kind: JobKind, job_id: str) -> None:
        """Wake the workers for a queued job, without waiting for the broker."""
        self.wake_up_publisher.send(kind, job_id)

    async def close(self) -> None:
        """Close all connections."""
        await self.key_cache.close()
        await self.rate_limits.close()
        await self.status_batcher.close()
        self.decoders.close()
        self.database.close()
        self.wake_up_publisher.close()
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
    queue_order = QueueOrder()
    return Service(
        settings=settings,
        database=database,
        objects=ObjectStore(settings.object_store),
        base_models=BaseModels(Catalog.load(settings.base_models)),
        key_cache=KeyCache(database),
        rate_limits=RateLimits(settings.redis_url),
        queue_order=queue_order,
        status_batcher=StatusBatcher(database, queue_order),
        job_watcher=JobWatcher(settings.redis_url),
        wake_up_publisher=WakeUpPublisher(celery_app(settings)),
        change_publisher=publisher,
        upload_slots=UploadSlots(),
        decoders=DecoderPool(
            settings.decoders,
            DecodeLimits(settings.image_limits, settings.decode_timeout_s, settings.max_decode_mb),
        ),
        image_downloads=ImageDownloads(
            private=settings.image_urls == "private", max_bytes=settings.image_limits.max_file_bytes
        ),
    )


async def service_of(request: Request) -> Service:
    """Return the service of the running application."""
    service: Service = request.app.state.service
    return service


CurrentService = Annotated[Service, Depends(service_of)]
