"""Messages for requests that do not match a schema: "<field>: got <value>; expected <what is allowed>"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoodip_core.errors import InvalidInputError
from zoodip_core.expectations import expectation


def field_of(error: Mapping[str, Any]) -> str | None:
    """Return the path of the field at fault, such as `metadata.team`; None for the whole body."""
    return ".".join(str(part) for part in error["loc"][1:]) or None


def message_of(error: Mapping[str, Any]) -> str:
    """Return the message for one error of Pydantic or FastAPI.

    Args:
        error: an item of `RequestValidationError.errors()`. A text in `msg` that starts with "got" is used as it is.
    """
    field = field_of(error) or "request"
    text = error["msg"].removeprefix("Value error, ")
    if text.startswith("got "):
        return f"{field}: {text}"
    if error["type"] == "missing":
        got, expected = "nothing", "a value"
    elif error["type"] == "extra_forbidden":
        got, expected = "an unknown field", "a field of the schema"
    else:
        got, expected = _shown(error.get("input")), expectation(text)
    return InvalidInputError.mismatch(field, got=got, expected=expected).message


def _shown(value: object) -> str:
    """Return a value as text. Containers are summarized, because they can be nested too deeply to print."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} with {len(value)} items"
    return repr(value)
