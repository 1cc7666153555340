"""Learns pseudo-subjects with forward passes only, on a base model that may be quantized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.base_models.calibrated_settings import CALIBRATED
from zoodip_core.calibration.options import CalibrationOptions
from zoodip_core.calibration.pseudo_subjects import PseudoSubject
from zoodip_core.calibration.start import begin_pseudo_subject
from zoodip_core.calibration.watch import Watch
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.engine import Engine
from zoodip_core.personalization.personalize import Personalization


@dataclass(frozen=True)
class ForwardOnly:
    """Learns by searches in the space of a first calibration.

    Attributes:
        bundle: the base model, quantized or not, with the first calibration.
        options: number of steps of a search.
        generation: steps and guidance scale of the pictures.
        watch: may stop before each pseudo-subject and each step.
    """

    bundle: Bundle
    options: CalibrationOptions
    generation: Mapping[str, int | float]
    watch: Watch

    def begin(self, subject: PseudoSubject, seed: int) -> Personalization:
        """Draw a pseudo-subject and start its search at its initializer.

        Raises:
            InterruptedSearchError: the watch stopped the learning.
        """
        self.watch.check()
        settings = CALIBRATED | {"steps": self.options.steps, "seed": seed}
        return begin_pseudo_subject(self.bundle, subject, seed, self.generation, settings)

    def learn(self, started: Sequence[Personalization], seed: int) -> Float[Tensor, "subjects flat"]:
        """Search pseudo-subjects together, and return how far the tokens moved. Each search has its own seed.

        Raises:
            InterruptedSearchError: the watch stopped the learning; nothing is kept of this batch.
            LossNotFiniteError: a loss is NaN or infinite.
        """
        starts = torch.stack([one.search.theta for one in started])
        engine = Engine(self.bundle)
        while unfinished := [one for one in started if not one.done]:
            self.watch.check()
            engine.advance(unfinished)
        return (torch.stack([one.search.theta for one in started]) - starts).cpu()

    def provenance(self) -> dict[str, Any]:
        """Return how pseudo-subjects are learned, for the calibration file."""
        return {"method": "forward_only", "precision": self.bundle.precision, **CALIBRATED}
