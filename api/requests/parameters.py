"""Path and query parameters that routes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Query, Request

from api.requests.bodies import NOT_STORABLE, STORABLE, is_storable
from zoodip_core.errors import InvalidInputError
from zoodip_core.service.jobs.states import Status

_ID = r"^[a-z]+_[0-9a-z]+$"
After = Annotated[str | None, Query(max_length=40, pattern=_ID, description="Last id of the previous page")]
Limit = Annotated[int, Query(ge=1, le=100, description="Maximum number of items")]
StatusFilter = Annotated[Status | None, Query(description="Only jobs in this state")]
Index = Annotated[int, Path(ge=0, lt=2**31)]
Id = Annotated[str, Path(max_length=40, pattern=_ID, examples=["per_06exs0fg3k5v8qhzj2m4n7rt"])]

_PREFIX, _SUFFIX = "metadata[", "]"
_MAX_FILTERS = 16


async def metadata_filter(request: Request) -> dict[str, str]:
    """Return the metadata filters of the query: `?metadata[team]=red` gives `{"team": "red"}`.

    Raises:
        InvalidInputError: There are more than 16 filters, or their text cannot be stored.
    """
    found = {
        name.removeprefix(_PREFIX).removesuffix(_SUFFIX): value
        for name, value in request.query_params.items()
        if name.startswith(_PREFIX) and name.endswith(_SUFFIX)
    }
    if len(found) > _MAX_FILTERS:
        raise InvalidInputError.mismatch(
            "metadata", got=f"{len(found)} filters", expected=f"at most {_MAX_FILTERS}"
        )
    if not is_storable([*found.items()]):
        raise InvalidInputError.mismatch("metadata", got=NOT_STORABLE, expected=STORABLE)
    return found


@dataclass(frozen=True)
class JobFilter:
    """Which page of a list of jobs to return, and which jobs it holds."""

    after: str | None
    limit: int
    status: Status | None
    metadata: dict[str, str]


async def job_filter(
    metadata: Annotated[dict[str, str], Depends(metadata_filter)],
    after: After = None,
    limit: Limit = 20,
    status: StatusFilter = None,
) -> JobFilter:
    """Return the page and the filters of the query."""
    return JobFilter(after, limit, status, metadata)


JobFilterQuery = Annotated[JobFilter, Depends(job_filter)]
