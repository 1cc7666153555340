"""Options of a calibration."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CalibrationOptions:
    """Options of a calibration.

    Attributes:
        subjects: number of pseudo-subjects.
        steps: steps of backpropagation, or of the search, for each.
        together: pseudo-subjects that are learned in one batch. The file of an interrupted calibration holds whole
            batches.
        samples: samples of each for the curvature.
        seed: seed of all random numbers.
        excluded: phrases that no pseudo-subject may contain, as `parse_excluded` returns them.
        forward_only: learn by searches in the principal directions of the vocabulary, without backpropagation.
    """

    subjects: int = 128
    steps: int = 150
    together: int = 8
    samples: int = 2
    seed: int = 0
    excluded: tuple[str, ...] = ()
    forward_only: bool = False
