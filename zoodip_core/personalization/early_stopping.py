"""The rule of `stop="auto"`: has the validation loss stopped falling?"""

from __future__ import annotations

from collections.abc import Sequence

MIN_MEASUREMENTS = 6
MIN_SHARE = 1 / 4  # of all steps; a loss can plateau early and then fall steeply
RECENT_SHARE = 1 / 3  # of the measurements so far, so the rule does not depend on the number of steps
MIN_GAIN = 0.005  # of the loss at the start


def has_stalled(losses: Sequence[float], *, share: float) -> bool:
    """Return whether the last third of the search improved the validation loss by less than 0.5 % of its start.

    Args:
        losses: validation losses at equal intervals; the first is from before the search.
        share: completed share of all steps, 0 to 1.
    """
    if len(losses) < MIN_MEASUREMENTS or share < MIN_SHARE:
        return False
    recent = round(len(losses) * RECENT_SHARE)
    gain = min(losses[:-recent]) - min(losses[-recent:])
    return gain < MIN_GAIN * abs(losses[0])
