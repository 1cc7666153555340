"""Native requests, built from the fields of another API's request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from api.requests.bodies import RequestBody

R = TypeVar("R", bound=RequestBody)


def native_request(model: type[R], names: Mapping[str, str] | None = None, **fields: Any) -> R:
    """Return a native request body.

    Args:
        model: class of the body.
        names: names of fields in the other API, where they differ, for messages.
        fields: values of the body.

    Raises:
        RequestValidationError: A value is not allowed.
    """
    try:
        return model(**fields)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        shown = names or {}
        located = [{**item, "loc": ("body", *_renamed(item["loc"], shown))} for item in found]
        raise RequestValidationError(located) from error


def _renamed(location: tuple[int | str, ...], names: Mapping[str, str]) -> tuple[int | str, ...]:
    first, *rest = location
    return (names.get(str(first), first), *rest)
