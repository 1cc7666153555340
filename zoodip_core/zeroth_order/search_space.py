r"""Search spaces: the coordinates u that Algorithm 1 searches, and the token θ that they stand for.

$$ \theta = \theta_0 + A u, \qquad A = [\, V^\top \operatorname{diag}(a) \;\; b I \,], \qquad
   a_i^2 = d (1 - f) \frac{s_i^2}{\sum_j s_j^2}, \qquad b^2 = f $$

V holds the k principal directions of a calibration and s their scales. The isotropic remainder has the share f of the
squared length, so that a concept outside the span of V can be reached. ‖A‖² is d, as for the full space: the same μ
and η move the token equally far.
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
    """The scaled principal directions of a calibration, and an isotropic remainder.

    Args:
        origin: θ₀, the token at u = 0.
        basis: V, orthonormal rows.
        scales: s, above 0.
        floor: f, the share of the remainder, from 0 to below 1. At 0 there is no remainder: u has k coordinates.
    """

    def __init__(
        self,
        origin: Float[Tensor, " d"],
        basis: Float[Tensor, "k d"],
        scales: Float[Tensor, " k"],
        floor: float,
    ) -> None:
        share = scales.square() / scales.square().sum()
        self._origin = origin.detach().clone().contiguous()
        self._directions = (share * len(origin) * (1 - floor)).sqrt()[:, None] * basis
        self._floor = math.sqrt(floor)

    def start(self, theta: Float[Tensor, " d"]) -> Float[Tensor, " coordinates"]:
        """Return u = 0."""
        count, d = self._directions.shape
        return torch.zeros(count + (d if self._floor else 0))

    def embed(self, u: Float[Tensor, "*rows coordinates"]) -> Float[Tensor, "*rows d"]:
        """Return θ₀ + A u."""
        count = len(self._directions)
        theta = self._origin + u[..., :count] @ self._directions
        return theta + self._floor * u[..., count:] if self._floor else theta

    def state(self) -> dict[str, Tensor]:
        """Return the SHA-256 of θ₀ and A."""
        digest = hashlib.sha256(f"{self._floor}".encode())
        for tensor in (self._origin, self._directions):
            digest.update(tensor.numpy().tobytes())
        return {"space.sha256": torch.tensor(list(digest.digest()), dtype=torch.uint8)}


FULL = FullSearchSpace()
