"""Parses the phrases that no pseudo-subject may contain. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable

from zoodip_core.errors import InvalidInputError

_WORD = re.compile(r"[^\W_]+")
_ARTICLES = frozenset({"a", "an", "the"})


def parse_excluded(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the phrase of each line in lowercase, without punctuation and articles. Empty lines are left out.

    Raises:
        InvalidInputError: no word of a line is left; the message names the line.
    """
    return tuple(_phrase(number, line) for number, line in enumerate(lines, 1) if line.strip())


def _phrase(number: int, line: str) -> str:
    words = [word for word in _WORD.findall(line.lower()) if word not in _ARTICLES]
    if not words:
        raise InvalidInputError.mismatch(
            "exclude", got=f"{line.strip()!r} in line {number}", expected="a word other than a, an and the"
        )
    return " ".join(words)
