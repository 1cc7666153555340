"""Format of several readings of one quantity."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def spread(values: Sequence[float], digits: str = ".3g") -> str:
    """Return the median and the range."""
    return f"{statistics.median(values):{digits}} ({min(values):{digits}}–{max(values):{digits}})"
