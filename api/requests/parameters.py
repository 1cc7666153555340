"""Parameters of lists."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query, Request

from api.schemas import is_storable
from zoodip_core.errors import InvalidInputError

_ID = r"^[a-z]+_[0-9a-z]+$"
After = Annotated[str | None, Query(max_length=40, pattern=_ID, description="The last id of the page before")]
Limit = Annotated[int, Query(ge=1, le=100)]
Id = Annotated[str, Path(max_length=40, pattern=_ID, examples=["per_06exs0fg3k5v8qhzj2m4n7rt"])]

_PREFIX, _SUFFIX = "metadata[", "]"


async def metadata_filter(request: Request) -> dict[str, str]:
    """`?metadata[team]=red` → {"team": "red"}.

    Raises:
        InvalidInputError: more than 16 of them, or text that no database stores.
    """
    found = {
        name.removeprefix(_PREFIX).removesuffix(_SUFFIX): value
        for name, value in request.query_params.items()
        if name.startswith(_PREFIX) and name.endswith(_SUFFIX)
    }
    if len(found) > 16:
        raise InvalidInputError("metadata: at most 16 can be asked for", field="metadata")
    if not is_storable([*found.items()]):
        raise InvalidInputError("metadata: text must not hold NUL or lone surrogates", field="metadata")
    return found
