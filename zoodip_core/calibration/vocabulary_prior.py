"""The calibration that a forward-only calibration starts from: where the vocabulary's words differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.calibration.curvature import mean_curvature
from zoodip_core.calibration.pseudo_subjects import PseudoSubject
from zoodip_core.calibration_file import DIRECTIONS, Calibration, principal_directions
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.personalization.initial_token import initial_token


def vocabulary_calibration(
    bundle: Bundle,
    subjects: Sequence[PseudoSubject],
    nouns: Sequence[str],
    *,
    samples: int,
    seed: int,
    generation: Mapping[str, int | float],
) -> Calibration:
    """Return the principal directions of all embeddings, with the length of a displacement between two nouns.

    Args:
        bundle: the base model.
        subjects: pseudo-subjects whose samples measure the curvature.
        nouns: single-token nouns of the vocabulary.
        samples: number of samples of each pseudo-subject.
        seed: seed of pictures and samples.
        generation: steps and guidance scale of the pictures.
    """
    centered = embedding_table(bundle)
    basis, scales = principal_directions(centered - centered.mean(dim=0), DIRECTIONS)
    scales = scales * (mean_square_distance(bundle, nouns) / scales.square().sum()).sqrt()
    curvature = mean_curvature(
        bundle, subjects, scales[:, None] * basis, samples=samples, seed=seed, generation=generation
    )
    return Calibration(basis, scales, curvature, bundle.weights_fingerprint, {"source": "vocabulary"})


def embedding_table(bundle: Bundle) -> Float[Tensor, "words flat"]:
    """Return the embeddings of all words, those of several text encoders side by side."""
    return torch.cat([encoder.table.float().cpu() for encoder in bundle.prompts.encoders], dim=1)


def mean_square_distance(bundle: Bundle, nouns: Sequence[str]) -> Float[Tensor, ""]:
    """Return the mean squared distance of the embeddings of two different nouns."""
    tokens = torch.stack([initial_token(bundle, noun, 1) for noun in nouns])
    return torch.nn.functional.pdist(tokens).square().mean()
