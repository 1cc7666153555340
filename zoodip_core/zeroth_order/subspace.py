r"""Subspace Gradient: removes from the estimate the directions in which the token has hardly moved.

The history B holds the last τ tokens. It is standardized and decomposed by PCA. P holds the directions of the
smallest variance, which together explain less than the share ν. They are projected away:

$$ \bar B = \frac{B - \mathrm{mean}}{\mathrm{std}} = U \Sigma V^\top, \quad
   i^* = \min \Big\{ i : \frac{\sum_{j \le i} \Sigma_{jj}^2}{\sum_j \Sigma_{jj}^2} > 1 - \nu \Big\}, \quad
   P = V^\top_{i^*+1 \ldots \tau}, \quad \hat g' = \hat g (I - P^\top P) $$

As in the paper, the history is standardized, but the gradient is not.

Source: arXiv:2503.14868v1, Eq. (4) to (8) and Alg. 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.config import NullDirectionsName, SearchSettings, SubspaceName


@runtime_checkable
class Subspace(Protocol):
    """Interface of the subspace step of Algorithm 1."""

    @property
    def removed(self) -> Float[Tensor, "rows d"]:
        """P: orthonormal rows, the directions that are removed."""
        ...

    def project(self, gradient: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        """Return the gradient without the removed directions."""
        ...

    def record(self, index: int, theta: Float[Tensor, " d"]) -> None:
        """Store a token at an index of the history."""
        ...

    def update(self) -> None:
        """Compute P from a full history, and clear the history."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that `load` needs, by name; not copied."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state with tensors of matching shapes; not copied."""
        ...


class SubspaceGradient:
    """Projects the gradient onto the directions in which the last τ tokens varied.

    Source: arXiv:2503.14868v1, Eq. (4) to (8).
    """

    def __init__(self, d: int, tau: int, nu: float, null_directions: NullDirectionsName) -> None:
        self._nu = nu
        self._null_directions = null_directions
        self._token_history = torch.zeros(tau, d)
        self._removed = torch.zeros(0, d)  # Alg. 1 l.1

    @classmethod
    def from_settings(cls, d: int, settings: SearchSettings) -> SubspaceGradient:
        """Return the projection for these settings; it is the identity before the first update."""
        return cls(d, settings.tau, settings.nu, settings.null_directions)

    @property
    def removed(self) -> Float[Tensor, "rows d"]:
        """P: orthonormal rows; none before the first update."""
        return self._removed

    def project(self, gradient: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        """Return ĝ' = ĝ (I − PᵀP).

        Source: arXiv:2503.14868v1, Eq. (8).
        """
        return gradient - (self._removed @ gradient) @ self._removed

    def record(self, index: int, theta: Float[Tensor, " d"]) -> None:
        """Store the token in the history: B[index] ← θ."""
        self._token_history[index] = theta

    def update(self) -> None:
        """Compute P from the history, then clear it: P ← updateP(B, ν), B ← 0."""
        self._removed = low_variance_directions(
            self._token_history, self._nu, null_directions=self._null_directions
        )
        self._token_history.zero_()

    def state(self) -> dict[str, Tensor]:
        """Return the history and P."""
        return {"subspace.token_history": self._token_history, "subspace.removed": self._removed}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Replace the history and P."""
        self._token_history = state["subspace.token_history"]
        self._removed = state["subspace.removed"]


class FullSpace:
    """Leaves the gradient unchanged: the paper's ablation without Subspace Gradient."""

    def __init__(self, d: int) -> None:
        self._removed = torch.zeros(0, d)

    @classmethod
    def from_settings(cls, d: int, settings: SearchSettings) -> FullSpace:
        """Return the identity on d dimensions."""
        return cls(d)

    @property
    def removed(self) -> Float[Tensor, "rows d"]:
        """No rows."""
        return self._removed

    def project(self, gradient: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        """Return the gradient unchanged."""
        return gradient

    def record(self, index: int, theta: Float[Tensor, " d"]) -> None:
        """Do nothing: there is no history."""

    def update(self) -> None:
        """Do nothing: no direction is ever removed."""

    def state(self) -> dict[str, Tensor]:
        """Return no tensors."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Do nothing: there is no state."""


def low_variance_directions(
    token_history: Float[Tensor, "tau d"], nu: float, *, null_directions: NullDirectionsName
) -> Float[Tensor, "rows d"]:
    """Return P: the principal directions after those that explain more than 1 − ν of the history's variance.

    The computation uses double precision, in which a dimension that never moved has a deviation of exactly 0.

    Args:
        token_history: B: the last τ tokens, one a row.
        nu: ν: share of the variance that P may hold, from 0 to 1.
        null_directions: whether P ends before the directions whose variance is numerically zero, or includes those
            that Eq. (7) prints. Rounding decides where these point, so P would differ from machine to machine.

    Returns:
        Orthonormal rows in the dtype of the history. There are at most min(τ, d) − 1, so at least one direction
        remains. There are none if no dimension moved.

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
    end = _rank(singular_values, standardized) if null_directions == "keep" else len(directions)
    removed: Tensor = directions[i_star:end]  # Alg. 2 l.5
    # Contiguous strides, also for one row: a matrix product chooses its kernel, and its rounding, by strides.
    return removed.to(token_history.dtype).clone(memory_format=torch.contiguous_format)  # Alg. 2 l.6


def _rank(singular_values: Float[Tensor, " rows"], matrix: Float[Tensor, "tau d"]) -> int:
    """Return the number of singular values above rounding, by the usual tolerance of a numerical rank."""
    tolerance = max(matrix.shape) * torch.finfo(matrix.dtype).eps
    return int((singular_values > tolerance * singular_values[0]).sum())


SUBSPACES: Mapping[SubspaceName, type[SubspaceGradient] | type[FullSpace]] = {
    "subspace_gradient": SubspaceGradient,
    "none": FullSpace,
}
