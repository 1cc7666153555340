r"""Search spaces: the coordinates u that a search moves, and the token θ that they stand for.

$$ \theta = \theta_0 + A u, \qquad A = V^\top \operatorname{diag}(s) $$

The first k rows of V are the principal directions of a calibration, and s holds their scales. The other rows span the
remainder, so that every token can be reached. They share one small scale. The coordinates of learned tokens have the
variance 1, so neither μ nor the steps depend on the lengths of a model's embeddings.
"""

from __future__ import annotations

import hashlib
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

NOISE = 0.03
"""κ: variance of a sample's derivative, relative to the curvature. Chosen on EmojiBooth's validation split."""
NOISE_WITHOUT_CAPTIONS = 0.3
"""κ of images without captions: each sample also asks the token for its background. Chosen on the same split."""
REMAINDER = 0.1
"""Squared length of a move along the remainder, relative to the span. Chosen on EmojiBooth's validation split."""
REMAINDER_CURVATURE = 0.01
"""Trace of the curvature along the remainder at its scale, relative to the span. For each squared length it is about
what EmojiBooth's validation split has outside of the learned moves, at the initial tokens."""


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
    """The scaled principal directions of a calibration, and the remainder.

    Args:
        origin: θ₀, the token at u = 0.
        basis: the principal directions, orthonormal rows.
        scales: their scales, above 0.
        curvature: mean curvature of the loss along `scales * basis`; only its shape counts.
        starts: displacements of the tokens at which a search can start. It starts at the first, and compares the
            others with it. None: at u = 0 only.
        noise: κ, variance of a sample's derivative, relative to the curvature.

    Attributes:
        noise: κ.
        other_starts: coordinates of all starts but the first.
        curvature: mean curvature of the loss along all coordinates, in double precision; only its shape counts.
    """

    def __init__(
        self,
        origin: Float[Tensor, " d"],
        basis: Float[Tensor, "k d"],
        scales: Float[Tensor, " k"],
        curvature: Float[Tensor, "k k"],
        starts: Float[Tensor, "starts d"] | None = None,
        noise: float = NOISE,
    ) -> None:
        self.noise = noise
        rest = orthogonal_complement(basis)
        count = max(1, len(rest))
        scale = (REMAINDER * scales.square().sum() / count).sqrt()
        lengths = torch.cat([scales, scale.expand(len(rest))])
        self.curvature = torch.zeros(len(lengths), len(lengths), dtype=torch.float64)
        self.curvature[: len(basis), : len(basis)] = curvature
        self.curvature.diagonal()[len(basis) :] = REMAINDER_CURVATURE * float(curvature.trace()) / count
        self._origin = origin.detach().clone().contiguous()
        axes = torch.cat([basis, rest])
        self._directions = lengths[:, None] * axes
        moved = (
            torch.zeros(1, len(lengths)) if starts is None else torch.stack([axes @ one for one in starts])
        )
        coordinates = moved / lengths
        self._start, self.other_starts = coordinates[0], coordinates[1:]
        self._given = (self._origin, basis, scales, curvature)

    def start(self, theta: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        """Return the coordinates of the first start."""
        return self._start.clone()

    def embed(self, u: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """Return θ₀ + A u."""
        return self._origin + u @ self._directions

    def state(self) -> dict[str, Tensor]:
        """Return the SHA-256 of θ₀ and the coordinates, without the starts: a predicted one has rounding errors."""
        digest = hashlib.sha256(f"variance 1, remainder {REMAINDER}".encode())
        for tensor in self._given:
            digest.update(tensor.numpy().tobytes())
        return {"space.sha256": torch.tensor(list(digest.digest()), dtype=torch.uint8)}


def orthogonal_complement(basis: Float[Tensor, "k d"]) -> Float[Tensor, "rest d"]:
    """Return orthonormal rows that are orthogonal to those of the basis and span the remainder."""
    columns: Tensor = torch.linalg.qr(basis.double().T, mode="complete").Q
    return columns[:, len(basis) :].T.float().contiguous()


FULL = FullSearchSpace()
