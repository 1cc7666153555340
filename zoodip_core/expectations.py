"""Turns messages of pydantic into the `expected` part of our error messages."""

from __future__ import annotations

import re

_OPENINGS = (  # opening of a pydantic message → noun phrase; the first match counts
    ("Input should be greater", "a number greater"),
    ("Input should be less", "a number less"),
    ("Input should be a finite", "a finite"),
    ("Input should be a valid dictionary", "an object"),
    ("Input should be a valid string", "text"),
    ("Input should be a valid", "a valid"),
    ("Input should be ", ""),
    ("Unable to parse input string as an integer", "an integer"),
    ("String should match", "text that matches"),
    ("String should have", "text with"),
    ("List should have", "a list with"),
    ("Dictionary should have", "an object with"),
    ("Field required", "a value"),
)
_REASON = re.compile(
    r"(, (unable|got|exceeded) | or object to extract | after validation| or instance of ).*"
)


def expectation(message: str) -> str:
    """Return what a pydantic message expects: "Input should be greater than 0" → "a number greater than 0"."""
    text = message.removeprefix("Value error, ")
    for opening, phrase in _OPENINGS:
        if text.startswith(opening):
            return _REASON.sub("", phrase + text.removeprefix(opening))
    return text
