"""Classifier-free guidance: combines the predictions for the negative and the positive prompt."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance with rescaling.

    Attributes:
        scale: factor of the difference between the positive and the negative prediction.
        rescale: share of the rescaling, 0 to 1.
    """

    scale: float
    rescale: float

    def apply(
        self, negative: Float[Tensor, "images c h w"], positive: Float[Tensor, "images c h w"]
    ) -> Float[Tensor, "images c h w"]:
        """Return the guided predictions."""
        guided = negative + self.scale * (positive - negative)
        return _rescaled(guided, positive, self.rescale) if self.rescale else guided


def _rescaled(
    guided: Float[Tensor, "images c h w"], positive: Float[Tensor, "images c h w"], share: float
) -> Float[Tensor, "images c h w"]:
    """Move the standard deviation of each guided prediction toward that of the positive branch.

    Source: arXiv:2305.08891, Eqs. (15) and (16)
    """
    dims = (1, 2, 3)
    corrected = guided * (positive.std(dims, keepdim=True) / guided.std(dims, keepdim=True))
    return share * corrected + (1 - share) * guided
