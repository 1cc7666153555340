"""JSON fields of multipart bodies."""

from __future__ import annotations

import json
from typing import TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from api.requests.uploaded_files import Upload

M = TypeVar("M", bound=BaseModel)


def parse_json_field(upload: Upload, name: str, model: type[M]) -> M:
    """Parse a field of the body that holds a JSON object.

    Raises:
        RequestValidationError: The field is missing, is not JSON, or does not match the schema.
    """
    if name not in upload.fields:
        missing = {"type": "missing", "loc": ("body", name), "msg": "Field required"}
        raise RequestValidationError([missing])
    try:
        return model.model_validate(json.loads(upload.fields[name]))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in found]) from error
    except (ValueError, RecursionError) as error:
        message = "got text that is not JSON; expected a JSON object"
        malformed = {"type": "json_in_field", "loc": ("body", name), "msg": message}
        raise RequestValidationError([malformed]) from error
