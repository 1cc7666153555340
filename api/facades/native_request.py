"""Native requests, built from the fields of another API's request."""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from api.requests.bodies import RequestBody

R = TypeVar("R", bound=RequestBody)


def native_request(model: type[R], **fields: Any) -> R:
    """Return a native request body.

    Raises:
        RequestValidationError: A value is not allowed.
    """
    try:
        return model(**fields)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in found]) from error
