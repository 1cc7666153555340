"""Learns pseudo-subjects with forward passes only, on a base model that may be quantized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.base_models.presets import CALIBRATED
from zoodip_core.calibration.pseudo_subjects import PseudoSubject
from zoodip_core.calibration.start import begin_pseudo_subject
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.engine import Engine


def draw_and_search(
    bundle: Bundle,
    subjects: Sequence[PseudoSubject],
    prior: Path,
    *,
    steps: int,
    seed: int,
    generation: Mapping[str, int | float],
) -> Float[Tensor, "subjects flat"]:
    """Draw pseudo-subjects with the base model, search each from its bare noun, and return how far the tokens moved.

    Args:
        bundle: the base model, quantized or not.
        subjects: searched together.
        prior: file of the calibration whose space is searched.
        steps: steps of each search.
        seed: seed of pictures and samples.
        generation: steps and guidance scale of the pictures.

    Raises:
        LossNotFiniteError: a loss is NaN or infinite.
        InvalidModelError: the prior is missing, damaged or of another base model.
    """
    searched = replace(bundle, calibration=prior)
    started = [
        begin_pseudo_subject(
            searched, subject, seed + index, generation, CALIBRATED | {"steps": steps, "seed": seed + index}
        )
        for index, subject in enumerate(subjects)
    ]
    starts = torch.stack([one.search.theta for one in started])
    engine = Engine(searched)
    while unfinished := [one for one in started if not one.done]:
        for error in engine.step(unfinished):
            if error is not None:
                raise error
    return torch.stack([one.search.theta for one in started]) - starts
