"""When a search has stopped getting better."""

from __future__ import annotations

from collections.abc import Sequence

MIN_MEASUREMENTS = 6
PATIENCE = 4  # measurements in a row that bring nothing
MIN_GAIN = 0.002  # of the loss at the start: less than that is the noise between two measurements


def has_stalled(losses: Sequence[float]) -> bool:
    """Whether the fixed-set loss has stopped falling: its best is old by `PATIENCE` measurements.

    Args:
        losses: fixed-set losses in order, the first from before the search.
    """
    if len(losses) < MIN_MEASUREMENTS:
        return False
    needed = abs(losses[0]) * MIN_GAIN
    before = min(losses[:-PATIENCE])
    return min(losses[-PATIENCE:]) > before - needed
