"""Finds how many rows of a batch fit into memory."""

from __future__ import annotations

RETRY_AFTER = 256
"""Forward passes after which a size that did not fit is tried again: other programs may have freed memory."""


class RowLimit:
    """Number of rows of the next forward pass, by bisection between a size that fits and one that does not.

    Args:
        most: upper limit that is never exceeded; None for no limit.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._fits = 0  # largest size that has fitted
        self._fails: int | None = None  # smallest size that did not fit; above `_fits`
        self._passes = 0  # since a size did not fit

    def size(self, wanted: int) -> int:
        """Return the number of rows to try, at most `wanted`.

        Without a failure it is all of them, so that the split, and its rounding, does not depend on earlier calls.
        """
        if self._most is not None:
            wanted = min(wanted, self._most)
        if wanted <= self._fits:
            return wanted
        if self._fails is not None:
            return min(wanted, max(1, (self._fits + self._fails) // 2))
        return wanted

    def record_success(self, size: int) -> None:
        """Record that a forward pass of `size` rows fitted."""
        self._fits = max(self._fits, size)
        self._passes += 1
        if self._fails is not None and (self._fits >= self._fails or self._passes >= RETRY_AFTER):
            self._fails = None

    def record_failure(self, size: int) -> None:
        """Record that `size` rows did not fit. If they did before, what fits now is unknown."""
        self._fails = size
        if size <= self._fits:
            self._fits = 0
        self._passes = 0
