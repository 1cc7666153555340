"""The calibration that a forward-only calibration starts from: where the vocabulary's words differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.calibration.curvature import mean_curvature
from zoodip_core.calibration.noun_displacements import noun_tokens
from zoodip_core.calibration.options import CalibrationOptions
from zoodip_core.calibration.pseudo_subjects import PseudoSubject
from zoodip_core.calibration.watch import Watch
from zoodip_core.calibration_file import DIRECTIONS, Calibration, principal_directions
from zoodip_core.diffusion.loading import Bundle


def vocabulary_calibration(
    bundle: Bundle,
    subjects: Sequence[PseudoSubject],
    nouns: Sequence[str],
    options: CalibrationOptions,
    generation: Mapping[str, int | float],
    watch: Watch,
) -> Calibration:
    """Return the principal directions of all embeddings, with the length of a displacement between two nouns.

    Args:
        bundle: the base model.
        subjects: pseudo-subjects whose samples measure the curvature.
        nouns: single-token nouns of the vocabulary.
        options: number of samples of each pseudo-subject, and seed.
        generation: steps and guidance scale of the pictures.
        watch: receives the number of measured pseudo-subjects.

    Raises:
        InterruptedSearchError: the watch stopped the measurement; nothing is kept of it.
    """
    centered = embedding_table(bundle)
    basis, scales = principal_directions(centered - centered.mean(dim=0), DIRECTIONS)
    scales = scales * (mean_square_distance(bundle, nouns) / scales.square().sum()).sqrt()
    curvature = mean_curvature(bundle, subjects, scales[:, None] * basis, options, generation, watch)
    return Calibration(basis, scales, curvature, bundle.weights_fingerprint, {"source": "vocabulary"})


def embedding_table(bundle: Bundle) -> Float[Tensor, "words flat"]:
    """Return the embeddings of all words, those of several text encoders side by side."""
    return torch.cat([encoder.table.float().cpu() for encoder in bundle.prompts.encoders], dim=1)


def mean_square_distance(bundle: Bundle, nouns: Sequence[str]) -> Float[Tensor, ""]:
    """Return the mean squared distance of the embeddings of two different nouns."""
    return torch.nn.functional.pdist(noun_tokens(bundle, nouns)).square().mean()
