"""Response bodies of the usage report."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import BaseModel, Field

from api.schemas import Timestamp


class DailyUsage(BaseModel):
    """Usage of one API key on one UTC day."""

    day: date = Field(description="UTC day", examples=["2026-03-01"])
    key: str | None = Field(
        description="Id of the API key that created the jobs; null without one", examples=["key_06exs0fg"]
    )
    evaluations: int = Field(description="U-Net evaluations of steps, measurements, previews and images")
    seconds: float = Field(
        description="Engine time in seconds; jobs that share a forward pass split it by their latent cells"
    )
    images: int = Field(description="Images of generations that succeeded")
    stored_bytes: int = Field(description="Largest size of the stored objects on that day")


class UsageQuotas(BaseModel):
    """Quotas of the owner; null for no limit. Daily quotas count the usage of all keys of the owner."""

    evaluations_per_day: int | None
    seconds_per_day: float | None
    images_per_day: int | None
    stored_bytes: int | None


class UsageReport(BaseModel):
    """Usage of the caller's owner by API key and UTC day, newest day first. Days without usage are left out."""

    object: Literal["usage"] = "usage"
    first_day: date
    last_day: date
    resets_at: Timestamp = Field(description="When the daily quotas reset: the next midnight in UTC")
    stored_bytes: int = Field(description="Current size of the stored objects of the owner")
    quotas: UsageQuotas
    data: list[DailyUsage]
