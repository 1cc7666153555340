r"""Predicts how far a token moves, from the latents of its reference images and its initial token.

A calibration fits the map to its pseudo-subjects by kernel ridge regression. An input x joins statistics s of the
latents and the initial token θ₀, centered. The kernel is linear:

$$ \hat m(x) = \bar m + k(x)^\top (K + \lambda I)^{-1} (M - \bar m), \qquad
   k(x, x') = \frac{1}{|s|} \sum_j \frac{s_j s'_j}{\mathrm{var}(s_j)}
            + w \frac{\langle \theta_0, \theta'_0 \rangle}{\mathrm{mean} \, \|\theta_0\|^2} $$

The statistics say what the pictures show. The initial token says what the base model would draw without a move.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

RIDGE = 0.3
"""λ. Chosen on EmojiBooth's validation split, as w is."""
TOKEN_WEIGHT = 0.5
"""w: weight of the initial token, relative to the statistics."""
NAMES = ("center", "inputs", "outputs", "offset")


@dataclass(frozen=True, eq=False)
class DisplacementMap:
    """An affine map from statistics and initial token to displacement.

    Its rank is at most the number of pseudo-subjects, so it is stored as two factors.

    Attributes:
        center: input that maps to the offset.
        inputs: first factor.
        outputs: second factor.
        offset: mean displacement.
    """

    center: Float[Tensor, " f"]
    inputs: Float[Tensor, "subjects f"]
    outputs: Float[Tensor, "subjects d"]
    offset: Float[Tensor, " d"]

    @classmethod
    def fit(
        cls,
        statistics: Float[Tensor, "subjects s"],
        tokens: Float[Tensor, "subjects d"],
        displacements: Float[Tensor, "subjects d"],
    ) -> DisplacementMap:
        """Fit the map to learned displacements.

        Args:
            statistics: `latent_statistics` of each pseudo-subject.
            tokens: their initial tokens.
            displacements: how far their tokens moved.
        """
        points = torch.cat([statistics, tokens], dim=1).double()
        center = points.mean(dim=0)
        points = points - center
        variances = points.square().mean(dim=0)
        count = statistics.shape[1]
        weights = torch.cat(
            [
                _reciprocal(variances[:count]) / count,
                TOKEN_WEIGHT * _reciprocal(variances[count:].sum()).expand(tokens.shape[1]),
            ]
        )
        inputs, moves = points * weights, displacements.double()
        offset = moves.mean(dim=0)
        kernel = inputs @ points.T + RIDGE * torch.eye(len(points), dtype=torch.float64)
        outputs = torch.linalg.solve(kernel, moves - offset)
        return cls(*(one.float().contiguous() for one in (center, inputs, outputs, offset)))

    def predict(self, statistics: Float[Tensor, " s"], token: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        """Return the displacement from an initial token."""
        point = torch.cat([statistics, token]) - self.center
        return self.offset + self.inputs @ point @ self.outputs

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name."""
        return {name: getattr(self, name) for name in NAMES}

    @staticmethod
    def shapes(tensors: Mapping[str, Tensor], dimensions: int, statistics: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes that tensors of a map must have, with as many pseudo-subjects as `inputs` has.

        Args:
            tensors: by name.
            dimensions: d, the length of a token.
            statistics: number of statistics of the latents.
        """
        rows, points = tensors["inputs"].shape[:1], dimensions + statistics
        return {
            "center": (points,),
            "inputs": (*rows, points),
            "outputs": (*rows, dimensions),
            "offset": (dimensions,),
        }


def latent_statistics(latents: Float[Tensor, "images c h w"]) -> Float[Tensor, " 2*c"]:
    """Return mean and standard deviation of each channel in the middle half of the images, as means over images."""
    height, width = latents.shape[-2:]
    middle = latents[..., height // 4 : height - height // 4, width // 4 : width - width // 4]
    return torch.cat([middle.mean(dim=(0, 2, 3)), middle.std(dim=(2, 3), correction=0).mean(dim=0)])


def _reciprocal(variance: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Return 1 ÷ variance, or 0 where nothing varies."""
    return torch.where(variance > 0, 1 / variance, torch.zeros_like(variance))
