"""When a search has stopped getting better."""

from __future__ import annotations

from collections.abc import Sequence

MIN_MEASUREMENTS = 6
RECENT_SHARE = 1 / 3  # of all measurements: the rule knows no absolute number of steps
MIN_GAIN = 0.005  # of the loss at the start


def has_stalled(losses: Sequence[float]) -> bool:
    """Whether the fixed-set loss has stopped falling: the last third of the search has brought next to nothing.

    Args:
        losses: fixed-set losses at even distances, the first from before the search.
    """
    if len(losses) < MIN_MEASUREMENTS:
        return False
    recent = round(len(losses) * RECENT_SHARE)
    gain = min(losses[:-recent]) - min(losses[-recent:])
    return gain < MIN_GAIN * abs(losses[0])
