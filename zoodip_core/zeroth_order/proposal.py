"""Proposal of a search: what the caller evaluates in one step."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Proposal:
    """Candidates of one step, with the image, timestep and noise that their losses share.

    The caller seeds a new CPU generator with `noise_seed` and draws caption, latent sample and noise from it.

    Attributes:
        candidates: embeddings to evaluate, float32, one a row.
        image: index of the reference image, from 0.
        flipped: whether to use the mirrored image.
        timestep: index into the model's noise schedule; 0 is the least noisy.
        noise_seed: 0 to 2⁶³ − 2.
    """

    candidates: Float[Tensor, "candidates d"]
    image: int
    flipped: bool
    timestep: int
    noise_seed: int
