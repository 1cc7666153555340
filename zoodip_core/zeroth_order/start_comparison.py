"""Chooses where a search starts: its first steps also evaluate the other tokens at which it could."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

SAMPLES = 4
"""Least samples on which each other start is evaluated. Chosen on EmojiBooth's validation split."""


class StartComparison:
    """Compares other starts with the token of the search, on the samples of its first steps.

    A step evaluates some of the other starts in place of directions, so the comparison takes no evaluations of its
    steps. A search that is less than twice as long compares nothing, and cannot be extended to one that compares.

    Args:
        others: coordinates of the other starts.
        n: directions of a step.
        steps: steps of the search.

    Attributes:
        steps: first steps that compare.
        sums: for each other start, the sum of its losses, and of those of the search on the same samples.
    """

    def __init__(self, others: Float[Tensor, "others d"], n: int, steps: int) -> None:
        each = max(1, min(len(others), n))
        needed = -(-SAMPLES * len(others) // each)
        compares = 2 * needed <= steps
        self._others, self._each = (others if compares else others[:0]), each
        self.steps = needed if compares else 0
        self.sums = torch.zeros(len(self._others), 2, dtype=torch.float64)

    def evaluated(self, step: int) -> Float[Tensor, "evaluated d"]:
        """Return the coordinates of the starts that a step evaluates; `step` counts from 0."""
        return self._others[self._indices(step)]

    def record(self, step: int, losses: Float[Tensor, " candidates"]) -> None:
        """Add the losses of a step: that of its token first, and those of `evaluated(step)` last."""
        indices, exact = self._indices(step), losses.double()
        pairs = [exact[len(exact) - len(indices) :], exact[:1].expand(len(indices))]
        self.sums = self.sums.index_add(0, indices, torch.stack(pairs, dim=1))

    def better(self) -> Float[Tensor, " d"] | None:
        """Return the coordinates of the best other start, or None if none is better than the search."""
        ratios = self.sums[:, 0] / self.sums[:, 1]
        best = int(ratios.argmin())
        return self._others[best].clone() if ratios[best] < 1 else None

    def _indices(self, step: int) -> Int[Tensor, " evaluated"]:
        """Return which starts a step evaluates; they take turns."""
        count = self._each if step < self.steps else 0
        return (step * self._each + torch.arange(count)) % max(1, len(self._others))
