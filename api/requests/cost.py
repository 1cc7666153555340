"""Estimates of the usage of a job, for `validate_only` and quotas."""

from __future__ import annotations

import time

from sqlalchemy import Connection

from api import schemas
from api.service import Service
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.config import GenerationSettings, PersonalizationSettings
from zoodip_core.personalization.cadence import count_measurements, count_previews
from zoodip_core.service import worker_registry
from zoodip_core.service.quotas import Estimate


def personalization_estimate(
    settings: PersonalizationSettings, entry: BaseModelEntry, preview_every: int
) -> Estimate:
    """Return the U-Net evaluations of a personalization that runs all its steps: search, measurements and previews.

    Args:
        settings: settings of the personalization.
        entry: base model, with the settings of its previews.
        preview_every: steps between two previews.
    """
    preview = GenerationSettings.parse({**entry.generation, "prompt": "preview"})
    return Estimate(
        evaluations=settings.evaluations
        + count_measurements(settings) * settings.fixed_rows
        + count_previews(settings, preview_every) * generation_estimate(preview).evaluations
    )


def generation_estimate(settings: GenerationSettings, prompts: int = 1) -> Estimate:
    """Return the images and U-Net evaluations of a generation. Schedulers such as `heun` take up to twice as many."""
    rows, images = 2 if settings.guidance_scale > 1 else 1, settings.n * prompts
    return Estimate(evaluations=images * settings.steps * rows, images=images)


def speed_of(connection: Connection, service: Service, base_model: str) -> float | None:
    """Return the U-Net evaluations per second of the fastest running worker; None if no worker has measured it."""
    workers = worker_registry.consuming(connection, time.time(), service.settings.lease_s)
    speeds = [worker.stats.get("rows_per_s", {}).get(base_model) for worker in workers]
    return max((speed for speed in speeds if speed), default=None)


def estimated_usage(estimate: Estimate, speed: float | None, area: float = 1.0) -> schemas.EstimatedUsage:
    """Convert an estimate to its response body.

    Args:
        estimate: the estimate.
        speed: U-Net evaluations of the native area per second, if known.
        area: area of an image; 1 is that of the base model's training images.
    """
    return schemas.EstimatedUsage(
        evaluations=estimate.evaluations,
        seconds=round(estimate.evaluations * area / speed, 1) if speed else None,
        images=estimate.images,
    )
