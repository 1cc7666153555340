r"""Subspace Gradient: drop from the estimate the directions along which the token has hardly moved.

The last τ tokens B are standardised and decomposed, and the directions P of the smallest variance, which
together hold less than a share ν of it, are projected away:

$$ \bar B = \frac{B - \mathrm{mean}}{\mathrm{std}} = U \Sigma V^\top, \quad
   i^* = \min \Big\{ i : \frac{\sum_{j \le i} \Sigma_{jj}^2}{\sum_j \Sigma_{jj}^2} > 1 - \nu \Big\}, \quad
   P = V^\top_{i^*+1 \ldots \tau}, \quad \hat g' = \hat g (I - P^\top P) $$

The history is standardised, the gradient is projected raw: so it is printed.

Source: arXiv:2503.14868v1, Eq. (4) to (8) and Alg. 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.config import SearchSettings, SubspaceName


@runtime_checkable
class Subspace(Protocol):
    """What Algorithm 1 does with the history of the token."""

    @property
    def removed(self) -> Float[Tensor, "rows d"]:
        """P: the directions that are projected away, orthonormal rows."""
        ...

    def project(self, gradient: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        """The gradient without the removed directions."""
        ...

    def remember(self, index: int, theta: Float[Tensor, " d"]) -> None:
        """Store a token in the history."""
        ...

    def update(self) -> None:
        """Find P anew from a full history, and clear the history."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What load() needs, by name; not copied."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state of the right shapes; not copied."""
        ...


class SubspaceGradient:
    """Projects onto where the last τ tokens varied.

    Source: arXiv:2503.14868v1, Eq. (4) to (8).
    """

    def __init__(self, d: int, tau: int, nu: float) -> None:
        self._nu = nu
        self._token_history = torch.zeros(tau, d)
        self._removed = torch.zeros(0, d)  # Alg. 1 l.1

    @classmethod
    def from_settings(cls, d: int, settings: SearchSettings) -> SubspaceGradient:
        """The projection of these settings, before the first update: the identity."""
        return cls(d, settings.tau, settings.nu)

    @property
    def removed(self) -> Float[Tensor, "rows d"]:
        """P: orthonormal rows; none before the first update."""
        return self._removed

    def project(self, gradient: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        """ĝ' = ĝ (I − PᵀP).

        Source: arXiv:2503.14868v1, Eq. (8).
        """
        return gradient - (self._removed @ gradient) @ self._removed

    def remember(self, index: int, theta: Float[Tensor, " d"]) -> None:
        """B[index] ← θ."""
        self._token_history[index] = theta

    def update(self) -> None:
        """P ← updateP(B, ν), then clear B."""
        self._removed = low_variance_directions(self._token_history, self._nu)
        self._token_history.zero_()

    def state(self) -> dict[str, Tensor]:
        """The history and P."""
        return {"subspace.token_history": self._token_history, "subspace.removed": self._removed}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over the history and P."""
        self._token_history = state["subspace.token_history"]
        self._removed = state["subspace.removed"]


class WholeSpace:
    """Keeps the gradient as it is: the paper's ablation without Subspace Gradient."""

    def __init__(self, d: int) -> None:
        self._removed = torch.zeros(0, d)

    @classmethod
    def from_settings(cls, d: int, settings: SearchSettings) -> WholeSpace:
        """The identity on d dimensions."""
        return cls(d)

    @property
    def removed(self) -> Float[Tensor, "rows d"]:
        """No rows."""
        return self._removed

    def project(self, gradient: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        """The gradient itself."""
        return gradient

    def remember(self, index: int, theta: Float[Tensor, " d"]) -> None:
        """Keeps no history."""

    def update(self) -> None:
        """Has nothing to find."""

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes nothing over."""


def low_variance_directions(token_history: Float[Tensor, "tau d"], nu: float) -> Float[Tensor, "rows d"]:
    """P: the principal directions of the history beyond those that hold more than 1 − ν of its variance.

    In double precision, where a dimension that never moved has a deviation of exactly 0. At most
    min(τ, d) − 1 rows, so that at least one direction stays; none at all if nothing moved.

    Source: arXiv:2503.14868v1, Alg. 2.
    """
    history = token_history.double()
    centred = history - history.mean(dim=0)
    deviation = centred.square().mean(dim=0).sqrt()
    standardised = centred / deviation.where(deviation > 0, 1.0)  # Alg. 2 l.2
    _, singular_values, directions = torch.linalg.svd(standardised, full_matrices=False)  # Alg. 2 l.3
    variance = singular_values.square()
    if not variance.sum() > 0:
        return token_history.new_zeros(0, token_history.shape[1])
    explained = variance.cumsum(0) / variance.sum()
    i_star = int((explained <= 1 - nu).sum()) + 1  # Alg. 2 l.4
    removed: Tensor = directions[i_star:]  # Alg. 2 l.5
    # The strides of a fresh tensor, one row included: by strides a product picks its kernel, and so how it rounds.
    return removed.to(token_history.dtype).clone(memory_format=torch.contiguous_format)  # Alg. 2 l.6


SUBSPACES: Mapping[SubspaceName, type[SubspaceGradient] | type[WholeSpace]] = {
    "subspace_gradient": SubspaceGradient,
    "none": WholeSpace,
}
