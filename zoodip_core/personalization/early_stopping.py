"""When a search has stopped getting better."""

from __future__ import annotations

from collections.abc import Sequence

MIN_MEASUREMENTS = 6
MIN_SHARE = 1 / 4  # of all steps: a search may pause early on and then fall steeply
RECENT_SHARE = 1 / 3  # of the measurements so far: the rule knows no absolute number of steps
MIN_GAIN = 0.005  # of the loss at the start


def has_stalled(losses: Sequence[float], *, share: float) -> bool:
    """Whether the fixed-set loss has stopped falling: the last third of the search has brought next to nothing.

    Args:
        losses: fixed-set losses at even distances, the first from before the search.
        share: of all steps that the search may take, how many it has taken.
    """
    if len(losses) < MIN_MEASUREMENTS or share < MIN_SHARE:
        return False
    recent = round(len(losses) * RECENT_SHARE)
    gain = min(losses[:-recent]) - min(losses[-recent:])
    return gain < MIN_GAIN * abs(losses[0])
