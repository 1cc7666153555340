"""Divides each iteration of the engine between personalizations and generations. No torch.

The work of an evaluation is its latent cells × the parameters of the U-Net, so the base models count by their size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, TypeVar
from weakref import WeakKeyDictionary

MAX_CELLS = 65_536
"""Latent cells that generations evaluate in one iteration: 16 rows of 512 x 512 px with 8 px a cell."""

DECODE_ROWS = 4
"""Rows whose evaluation takes about as long as decoding one image of their size (SD1.5: 3.6 by multiplications)."""

ACCELERATOR_OVERHEAD_WORK = 43_000 * 860_000_000
"""Work that takes as long as the fixed cost of a forward pass on an accelerator.

Measured with SD1.5's shapes in INT8 on an H200: five rows take 1.24 times as long as two (4,096 cells each, and 860
million parameters).
"""


class Drawing(Protocol):
    """A generation as a number of equal units of work, which can be done in different iterations."""

    @property
    def units(self) -> int:
        """Units that the next iteration can do: rows of the current step, or the decoding of one image."""

    @property
    def unit_cells(self) -> int:
        """Latent cells of one unit; `DECODE_ROWS` times those of a row for the decoding of an image."""

    @property
    def parameters(self) -> int:
        """Parameters of the U-Net."""


D = TypeVar("D", bound=Drawing)


class FairShares:
    """Chooses the generations of each iteration. Personalizations are part of every iteration.

    An iteration with the work S of personalizations and G of generations takes about as long as its overhead and its
    work together. Personalizations keep a share s of their speed if G ≤ (S + overhead) (1 − s) / s. A unit that is
    larger is done nevertheless, and the next iterations do less until the average is below the limit. Base models
    share the limit equally, so a unit of a large one leaves no debt to a small one.

    The generation whose last turn is the longest ago is the first, so all have turns. A generation that has not
    started is part of the next iteration if no other one waits to start.

    Args:
        share: share s of their speed that personalizations keep, at least 0 and below 1.
        overhead_work: work that takes as long as the fixed cost of a forward pass.
        most_cells: most cells of generations in one iteration, or one unit.
    """

    def __init__(self, share: float, *, overhead_work: int = 0, most_cells: int = MAX_CELLS) -> None:
        self._ratio = (1 - share) / share if share else math.inf
        self._overhead_work = overhead_work
        self._most_cells = most_cells
        self._debts: dict[int, float] = {}  # work beyond the limit, for each size of a U-Net
        self._iteration = 0
        self._last_turns: WeakKeyDictionary[Drawing, int] = WeakKeyDictionary()

    def allot(self, reserved_work: int, drawings: Sequence[D]) -> list[tuple[D, int]]:
        """Return the generations of the next iteration, each with its number of units.

        Args:
            reserved_work: work of all personalizations in the iteration; 0 if there are none.
            drawings: generations that are not finished.
        """
        self._iteration += 1
        limit = (reserved_work + self._overhead_work) * self._ratio if reserved_work else math.inf
        sizes = {drawing.parameters for drawing in drawings} | self._debts.keys()
        credits = {size: limit / len(sizes) - self._debts.get(size, 0.0) for size in sizes}
        cells_left = self._most_cells
        turns: list[tuple[D, int]] = []
        for drawing in sorted(drawings, key=self._order):
            starts_first = not turns and drawing not in self._last_turns
            room = min(cells_left, credits[drawing.parameters] / drawing.parameters)
            if room <= 0 and not starts_first:
                continue
            units = min(drawing.units, max(1, math.floor(room / drawing.unit_cells)))
            turns.append((drawing, units))
            self._last_turns[drawing] = self._iteration
            cells_left -= units * drawing.unit_cells
            credits[drawing.parameters] -= units * drawing.unit_cells * drawing.parameters
        self._debts = {size: -credit for size, credit in credits.items() if credit < 0}
        return turns

    def _order(self, drawing: Drawing) -> tuple[int, int]:
        """Sort by the last turn. Among equals small ones come first, because a large one fills the iteration."""
        return self._last_turns.get(drawing, 0), drawing.units * drawing.unit_cells
