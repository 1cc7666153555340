r"""Search spaces: the coordinates u that a search moves, and the token θ that they stand for.

$$ \theta = \theta_0 + A u, \qquad A = V^\top \operatorname{diag}(a), \qquad
   a_i = s_i / \sigma, \qquad \sigma^2 = \frac{1}{d} \sum_j s_j^2 $$

V holds the k principal directions of a calibration and s their scales. ‖A‖² is d, as for the full space, so the same
μ moves the token equally far. The coordinates of learned tokens have the variance σ².
"""

from __future__ import annotations

import hashlib
import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class SearchSpace(Protocol):
    """Interface of a search space."""

    def start(self, theta: Float[Tensor, " d"]) -> Float[Tensor, " coordinates"]:
        """Return the coordinates at which a search from this token starts."""
        ...

    def embed(self, u: Float[Tensor, "*rows coordinates"]) -> Float[Tensor, "*rows d"]:
        """Return the tokens of coordinates."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return tensors that identify the space in a checkpoint; none for the full space."""
        ...


class FullSearchSpace:
    """All dimensions of the token: u = θ."""

    def start(self, theta: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        """Return a copy of the token."""
        return theta.detach().clone().contiguous()

    def embed(self, u: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """Return the coordinates, unchanged."""
        return u

    def state(self) -> dict[str, Tensor]:
        """Return no tensors, as in checkpoints of versions without search spaces."""
        return {}


class CalibratedSearchSpace:
    """The scaled principal directions of a calibration.

    Args:
        origin: θ₀, the token at u = 0.
        basis: V, orthonormal rows.
        scales: s, above 0.
        curvature: mean curvature of the loss along `scales * basis`; only its shape counts.

    Attributes:
        spread: σ, the standard deviation of the coordinates of learned tokens.
        curvature: as given, in double precision.
    """

    def __init__(
        self,
        origin: Float[Tensor, " d"],
        basis: Float[Tensor, "k d"],
        scales: Float[Tensor, " k"],
        curvature: Float[Tensor, "k k"],
    ) -> None:
        self.spread = math.sqrt(float(scales.square().sum()) / len(origin))
        self.curvature = curvature.double()
        self._origin = origin.detach().clone().contiguous()
        self._directions = (scales / self.spread)[:, None] * basis

    def start(self, theta: Float[Tensor, " d"]) -> Float[Tensor, " k"]:
        """Return u = 0."""
        return torch.zeros(len(self._directions))

    def embed(self, u: Float[Tensor, "*rows k"]) -> Float[Tensor, "*rows d"]:
        """Return θ₀ + A u."""
        return self._origin + u @ self._directions

    def state(self) -> dict[str, Tensor]:
        """Return the SHA-256 of θ₀, A and the curvature."""
        digest = hashlib.sha256()
        for tensor in (self._origin, self._directions, self.curvature):
            digest.update(tensor.numpy().tobytes())
        return {"space.sha256": torch.tensor(list(digest.digest()), dtype=torch.uint8)}


FULL = FullSearchSpace()
