"""Measures the mean curvature of the loss along the principal directions, with forward passes only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.calibration.options import CalibrationOptions
from zoodip_core.calibration.pseudo_subjects import PseudoSubject, weights
from zoodip_core.calibration.start import TOKEN, begin_pseudo_subject
from zoodip_core.calibration.watch import Watch
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.engine import Engine
from zoodip_core.personalization.samples import Sample, candidates_request

STEP = 0.01
"""Step of the finite differences, relative to the scale of each direction."""
TIMESTEPS = (0.5, 0.9)
"""Range of the timesteps, as a share of all. Other ranges between 0.3 and 0.95 give almost the same shape."""


def mean_curvature(
    bundle: Bundle,
    subjects: Sequence[PseudoSubject],
    directions: Float[Tensor, "k flat"],
    options: CalibrationOptions,
    generation: Mapping[str, int | float],
    watch: Watch,
) -> Float[Tensor, "k k"]:
    """Return the weighted mean of the samples' curvatures ΔΔᵀ at the initial tokens, each divided by its trace.

    A few samples depend on the token hundreds of times more than the median one. Without the division they would
    decide the mean.

    Args:
        bundle: the base model.
        subjects: pseudo-subjects, drawn as for learning.
        directions: principal directions with the length of their scales.
        options: number of samples, and seed of pictures, as for learning, and of samples.
        generation: steps and guidance scale of the pictures.
        watch: receives the number of measured pseudo-subjects.

    Raises:
        InterruptedSearchError: the watch stopped the measurement; nothing is kept of it.
    """
    generator = torch.Generator().manual_seed(options.seed)
    low, high = (round(share * len(bundle.schedule)) for share in TIMESTEPS)
    engine, total = Engine(bundle), torch.zeros(len(directions), len(directions), dtype=torch.float64)
    for index, (subject, weight) in enumerate(zip(subjects, weights(subjects), strict=True)):
        watch.check()
        begun = begin_pseudo_subject(bundle, subject, options.seed + index, generation)
        theta = begun.search.theta
        candidates = torch.cat([theta[None], theta + STEP * directions])
        for image in range(options.samples):
            timestep, noise = (
                int(torch.randint(first, last, (), generator=generator))
                for first, last in ((low, high), (0, 2**62))
            )
            sample = begun.references.draw(
                image % len(begun.references.posteriors), flipped=False, timestep=timestep, seed=noise
            )
            total += weight * _curvature(engine, sample, candidates)
        watch.on_progress("measured", index + 1, len(subjects))
    return (total / total.trace()).float()


def _curvature(
    engine: Engine, sample: Sample, candidates: Float[Tensor, "rows flat"]
) -> Float[Tensor, "k k"]:
    """Return ΔΔᵀ of a sample with the trace 1; the first candidate is the one that the others differ from."""
    request = candidates_request(engine.bundle.prompts, sample, TOKEN, candidates, 1)
    (predicted,) = engine.evaluate([request])
    change = (predicted[1:] - predicted[0]).flatten(1).double()
    products = change @ change.T
    return products / products.trace().clamp_min(torch.finfo(torch.float64).tiny)
