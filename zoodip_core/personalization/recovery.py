"""Recovery from losses that are not finite: first another sample, then an earlier state."""

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
            to its last checkpoint.
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


def restored(step: int, checkpoint_step: int, learning_rate: float | None) -> Recovery:
    """Return the record of a return to a checkpoint; a search in the calibrated space has no learning rate."""
    slower = "" if learning_rate is None else f" and the learning rate {learning_rate:g}"
    return Recovery(
        "restored",
        step,
        f"the loss stayed not finite after step {step}; continuing from step {checkpoint_step} with other "
        f"samples{slower}",
    )
