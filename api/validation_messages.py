"""Messages for requests that do not match a schema: "<field>: got <value>; expected <what is allowed>"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from zoodip_core.errors import InvalidInputError

_EXPECTED = (  # openings of Pydantic's messages, and the noun phrases for them; the first match counts
    ("Input should be greater", "a number greater"),
    ("Input should be less", "a number less"),
    ("Input should be a finite", "a finite"),
    ("Input should be a valid dictionary", "an object"),
    ("Input should be a valid string", "text"),
    ("Input should be a valid", "a valid"),
    ("Input should be ", ""),
    ("String should match", "text that matches"),
    ("String should have", "text with"),
    ("List should have", "a list with"),
    ("Dictionary should have", "an object with"),
)
_REASON = re.compile(r"(, (unable|got) | after validation| or instance of ).*")


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
        got, expected = _shown(error.get("input")), _expected(text)
    return InvalidInputError.mismatch(field, got=got, expected=expected).message


def _expected(text: str) -> str:
    for opening, phrase in _EXPECTED:
        if text.startswith(opening):
            return _REASON.sub("", phrase + text.removeprefix(opening))
    return text


def _shown(value: object) -> str:
    """Return a value as text. Containers are summarized, because they can be nested too deeply to print."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} with {len(value)} items"
    return repr(value)
