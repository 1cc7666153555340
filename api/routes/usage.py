"""Usage of the caller by API key and day."""

from __future__ import annotations

import time
from datetime import date, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response

from api import serializers
from api.auth import Reader
from api.problems import problems
from api.usage_quotas import quotas_of
from api.usage_schemas import DailyUsage, UsageQuotas, UsageReport
from zoodip_core.errors import InvalidInputError
from zoodip_core.service import stored_objects, usage
from zoodip_core.service.quotas import Quotas

router = APIRouter(tags=["service"])

_DEFAULT_DAYS, _MAX_DAYS = 30, 366
_EARLIEST = date(2000, 1, 1)


@router.get("/v1/usage", summary="Get usage", response_model=UsageReport, responses=problems())
def get(
    caller: Reader,
    first_day: Annotated[
        date | None, Query(description="First UTC day; default: 29 days before the last one")
    ] = None,
    last_day: Annotated[date | None, Query(description="Last UTC day; default: today")] = None,
) -> Response:
    """Return what the owner of the key has used, by API key and UTC day. Other owners are never included."""
    now = time.time()
    last = last_day or usage.date_of(usage.day_of(now))
    if last < _EARLIEST:
        raise InvalidInputError.mismatch("last_day", got=last, expected=f"a day since {_EARLIEST}")
    first = first_day or last - timedelta(days=_DEFAULT_DAYS - 1)
    if not 0 <= (last - first).days < _MAX_DAYS:
        raise InvalidInputError.mismatch(
            "first_day",
            got=first,
            expected=f"a day up to {last} and at most {_MAX_DAYS - 1} days before it",
        )
    with caller.service.database.read() as connection:
        found = usage.list_days(connection, caller.owner, usage.number_of(first), usage.number_of(last))
        stored = stored_objects.bytes_by_key(connection, caller.owner)
    today = usage.day_of(now)
    return serializers.reply(
        UsageReport(
            first_day=first,
            last_day=last,
            resets_at=serializers.timestamp(usage.next_reset(now).timestamp()) or "",
            stored_bytes=sum(stored.values()),
            quotas=_quotas(quotas_of(caller)),
            data=[_day(one, stored.get(one.key_id, 0) if one.day == today else 0) for one in found],
        )
    )


def _day(one: usage.DailyUsage, stored_now: int) -> DailyUsage:
    return DailyUsage(
        day=usage.date_of(one.day),
        key=one.key_id or None,
        evaluations=one.evaluations,
        seconds=round(one.seconds, 3),
        images=one.images,
        stored_bytes=max(one.stored_bytes, stored_now),
    )


def _quotas(found: Quotas) -> UsageQuotas:
    return UsageQuotas(
        evaluations_per_day=found.max_evaluations_per_day,
        seconds_per_day=found.max_seconds_per_day,
        images_per_day=found.max_images_per_day,
        stored_bytes=found.max_stored_bytes,
    )
