"""Ids that sort by creation time, so that pagination needs only the id."""

from __future__ import annotations

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32
_TIME_BITS, _RANDOM_BITS = 48, 72
_CHARACTERS = (_TIME_BITS + _RANDOM_BITS) // 5


def new_id(prefix: str, now: float | None = None) -> str:
    """Return `prefix_` and 24 characters: 48 bits of milliseconds since 1970 and 72 random bits."""
    milliseconds = int((time.time() if now is None else now) * 1000) & (1 << _TIME_BITS) - 1
    number = milliseconds << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    shifts = range(_TIME_BITS + _RANDOM_BITS - 5, -1, -5)
    return f"{prefix}_" + "".join(_ALPHABET[number >> shift & 31] for shift in shifts)


def is_id(text: str) -> bool:
    """Return whether the text has the format of an id."""
    prefix, _, rest = text.partition("_")
    return prefix.isalpha() and len(rest) == _CHARACTERS and set(rest) <= set(_ALPHABET)


def creation_time(id_: str) -> float:
    """Return the creation time of an id, in seconds since 1970."""
    number = 0
    for character in id_.rpartition("_")[2]:
        number = number << 5 | _ALPHABET.index(character)
    return (number >> _RANDOM_BITS) / 1000
