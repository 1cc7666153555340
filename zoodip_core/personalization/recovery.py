"""Recovery from losses that are not finite: first another sample, then an earlier state with a smaller rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MAX_REDRAWS = 3
"""Times that one step is repeated with another sample."""


@dataclass(frozen=True)
class Recovery:
    """One recovery of a search.

    Attributes:
        kind: "redrawn" if the step was repeated with another sample; "restored" if the search went back
            to its last checkpoint with half the learning rate.
        step: completed steps before the recovery.
        message: one sentence for the user.
    """

    kind: Literal["redrawn", "restored"]
    step: int
    message: str


def redrawn(step: int, attempt: int) -> Recovery:
    """Return the record of a repeated step."""
    return Recovery(
        "redrawn",
        step,
        f"the loss of step {step + 1} was not finite; drawing another sample ({attempt} of {MAX_REDRAWS})",
    )


def restored(step: int, checkpoint_step: int, learning_rate: float) -> Recovery:
    """Return the record of a return to a checkpoint."""
    return Recovery(
        "restored",
        step,
        f"the loss stayed not finite after step {step}; continuing from step {checkpoint_step} with the "
        f"learning rate {learning_rate:g}",
    )
