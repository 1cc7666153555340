r"""Subspace Gradient: removes the directions in which the token has hardly moved from the estimate.

The last τ tokens B are standardized and decomposed. P holds the directions of the smallest variance, which together
hold less than a share ν of it. They are projected out of the gradient:

$$ \bar B = \frac{B - \mathrm{mean}}{\mathrm{std}} = U \Sigma V^\top, \quad
   i^* = \min \Big\{ i : \frac{\sum_{j \le i} \Sigma_{jj}^2}{\sum_j \Sigma_{jj}^2} > 1 - \nu \Big\}, \quad
   P = V^\top_{i^*+1 \ldots \tau}, \quad \hat g' = \hat g (I - P^\top P) $$

As printed, the history is standardized, but the projection applies to the raw gradient.

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
    """Interface of the projection that Algorithm 1 computes from the token history."""

    @property
    def removed(self) -> Float[Tensor, "rows d"]:
        """P: the removed directions, as orthonormal rows."""
        ...

    def project(self, gradient: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        """Return the gradient without the removed directions."""
        ...

    def remember(self, index: int, theta: Float[Tensor, " d"]) -> None:
        """Store a token at an index of the history."""
        ...

    def update(self) -> None:
        """Compute P from a full history, and clear the history."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that `load` needs, by name. They are not copied."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Load a state of the right shapes. The tensors are not copied."""
        ...


class SubspaceGradient:
    """Projects the gradient onto the directions in which the last τ tokens varied.

    Source: arXiv:2503.14868v1, Eq. (4) to (8).
    """

    def __init__(self, d: int, tau: int, nu: float) -> None:
        self._nu = nu
        self._token_history = torch.zeros(tau, d)
        self._removed = torch.zeros(0, d)  # Alg. 1 l.1

    @classmethod
    def from_settings(cls, d: int, settings: SearchSettings) -> SubspaceGradient:
        """Create the projection from the settings. It is the identity until the first update."""
        return cls(d, settings.tau, settings.nu)

    @property
    def removed(self) -> Float[Tensor, "rows d"]:
        """P, as orthonormal rows. It has no rows before the first update."""
        return self._removed

    def project(self, gradient: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        """Return ĝ' = ĝ (I − PᵀP).

        Source: arXiv:2503.14868v1, Eq. (8).
        """
        return gradient - (self._removed @ gradient) @ self._removed

    def remember(self, index: int, theta: Float[Tensor, " d"]) -> None:
        """Store θ: B[index] ← θ."""
        self._token_history[index] = theta

    def update(self) -> None:
        """Compute P ← updateP(B, ν), then clear B."""
        self._removed = low_variance_directions(self._token_history, self._nu)
        self._token_history.zero_()

    def state(self) -> dict[str, Tensor]:
        """Return the history and P."""
        return {"subspace.token_history": self._token_history, "subspace.removed": self._removed}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Load the history and P."""
        self._token_history = state["subspace.token_history"]
        self._removed = state["subspace.removed"]


class WholeSpace:
    """Identity projection: the paper's ablation without Subspace Gradient."""

    def __init__(self, d: int) -> None:
        self._removed = torch.zeros(0, d)

    @classmethod
    def from_settings(cls, d: int, settings: SearchSettings) -> WholeSpace:
        """Create the identity on d dimensions."""
        return cls(d)

    @property
    def removed(self) -> Float[Tensor, "rows d"]:
        """P without rows."""
        return self._removed

    def project(self, gradient: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        """Return the gradient unchanged."""
        return gradient

    def remember(self, index: int, theta: Float[Tensor, " d"]) -> None:
        """Do nothing: there is no history."""

    def update(self) -> None:
        """Do nothing: P stays empty."""

    def state(self) -> dict[str, Tensor]:
        """Return an empty state."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Do nothing: the state is empty."""


def low_variance_directions(token_history: Float[Tensor, "tau d"], nu: float) -> Float[Tensor, "rows d"]:
    """Return P: the principal directions after the first ones that hold more than 1 − ν of the variance.

    The computation is in double precision, so that a dimension that never moved has a deviation of exactly 0.
    P has at most min(τ, d) − 1 rows, so that at least one direction stays. It has no rows if no dimension moved.

    Source: arXiv:2503.14868v1, Alg. 2.
    """
    history = token_history.double()
    centered = history - history.mean(dim=0)
    deviation = centered.square().mean(dim=0).sqrt()
    standardized = centered / deviation.where(deviation > 0, 1.0)  # Alg. 2 l.2
    _, singular_values, directions = torch.linalg.svd(standardized, full_matrices=False)  # Alg. 2 l.3
    variance = singular_values.square()
    if not variance.sum() > 0:
        return token_history.new_zeros(0, token_history.shape[1])
    explained = variance.cumsum(0) / variance.sum()
    i_star = int((explained <= 1 - nu).sum()) + 1  # Alg. 2 l.4
    removed: Tensor = directions[i_star:]  # Alg. 2 l.5
    # Use the strides of a new tensor, also for one row: the kernel of a product, and its rounding, depend on them.
    return removed.to(token_history.dtype).clone(memory_format=torch.contiguous_format)  # Alg. 2 l.6


SUBSPACES: Mapping[SubspaceName, type[SubspaceGradient] | type[WholeSpace]] = {
    "subspace_gradient": SubspaceGradient,
    "none": WholeSpace,
}
