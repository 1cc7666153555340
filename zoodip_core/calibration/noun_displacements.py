"""Displacements from noun to noun: where the token of an object moves whose shape is not that of its initializer.

Pseudo-subjects are learned from their own noun, so their moves change colors and patterns, and hardly the shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.diffusion.loading import Bundle
from zoodip_core.personalization.initial_token import initial_token

SHARE = 0.4
"""Mean square of a displacement between nouns, relative to that of a learned move. Chosen on EmojiBooth's validation
split."""


def noun_displacements(
    bundle: Bundle, nouns: Sequence[str], learned: Float[Tensor, "moves flat"]
) -> Float[Tensor, "nouns flat"]:
    """Return rows whose outer products add up to the covariance of nouns, scaled to the learned moves.

    Args:
        bundle: the base model.
        nouns: words of the vocabulary.
        learned: learned moves of the pseudo-subjects, as rows whose outer products add up to their mean square.
    """
    tokens = noun_tokens(bundle, nouns)
    centered = tokens - tokens.mean(dim=0)
    wanted = SHARE * learned.square().sum()
    return centered * (wanted / centered.square().sum()).sqrt()


def noun_tokens(bundle: Bundle, nouns: Sequence[str]) -> Float[Tensor, "nouns flat"]:
    """Return the embedding of each noun."""
    return torch.stack([initial_token(bundle, noun, 1) for noun in nouns])
