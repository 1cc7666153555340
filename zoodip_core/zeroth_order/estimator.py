r"""A gradient from losses alone: differences along random directions, and their sum.

For directions $e_i \in \mathbb{R}^d$ and the step length $\mu$, every estimator gives

$$ \hat g = \frac{1}{s} \sum_{i=1}^{n} D_i \, e_i, \qquad D_i \approx \langle \nabla L(\theta), e_i \rangle $$

They differ in how $D_i$ is measured; the divisor $s$ is $n$ in the paper. All losses of one estimate
are taken at the same latent, noise, timestep and caption.

Source: arXiv:2503.14868v1, Eq. (3), (S11), (S12).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.config import EVALUATIONS, DerivativeName, EstimateScaleName, EstimatorName


@runtime_checkable
class Estimator(Protocol):
    """Where to measure the loss, and what the losses say about the derivatives D_i."""

    def drawn(self, n: int) -> int:
        """How many directions an estimate along n directions draws."""
        ...

    def forwards(self, n: int) -> int:
        """How many losses it needs."""
        ...

    def candidates(
        self, theta: Float[Tensor, " d"], directions: Float[Tensor, "drawn d"], mu: float
    ) -> Float[Tensor, "candidates d"]:
        """The tokens to measure, θ itself untouched."""
        ...

    def derivatives(self, losses: Float[Tensor, " candidates"], mu: float) -> Float[Tensor, " n"]:
        """D_i from the losses of the candidates."""
        ...

    def used(self, directions: Float[Tensor, "drawn d"]) -> Float[Tensor, "n d"]:
        """The directions e_i that the D_i belong to."""
        ...


class RandomGradientEstimator:
    """D_i = [L(θ+μe_i) − L(θ)]/μ with n+1 losses.

    Source: arXiv:2503.14868v1, Eq. (3).
    """

    def drawn(self, n: int) -> int:
        """Draws n directions."""
        return n

    def forwards(self, n: int) -> int:
        """θ and n perturbations of it."""
        return EVALUATIONS["rge"](n)

    def candidates(
        self, theta: Float[Tensor, " d"], directions: Float[Tensor, "drawn d"], mu: float
    ) -> Float[Tensor, "candidates d"]:
        """θ, θ+μe_1, …, θ+μe_n."""
        return torch.cat([theta[None], theta + mu * directions])

    def derivatives(self, losses: Float[Tensor, " candidates"], mu: float) -> Float[Tensor, " n"]:
        """Forward differences."""
        return (losses[1:] - losses[0]) / mu

    def used(self, directions: Float[Tensor, "drawn d"]) -> Float[Tensor, "n d"]:
        """All of them."""
        return directions


class SimultaneousPerturbation:
    """D_i = [L(θ+μe_i) − L(θ−μe_i)]/(2μ) with 2n losses (SPSA).

    Source: arXiv:2503.14868v1, Eq. (S11).
    """

    def drawn(self, n: int) -> int:
        """Draws n directions."""
        return n

    def forwards(self, n: int) -> int:
        """Both sides of each direction."""
        return EVALUATIONS["spsa"](n)

    def candidates(
        self, theta: Float[Tensor, " d"], directions: Float[Tensor, "drawn d"], mu: float
    ) -> Float[Tensor, "candidates d"]:
        """θ+μe_1, …, θ+μe_n, θ−μe_1, …, θ−μe_n."""
        return torch.cat([theta + mu * directions, theta - mu * directions])

    def derivatives(self, losses: Float[Tensor, " candidates"], mu: float) -> Float[Tensor, " n"]:
        """Central differences."""
        ahead, behind = losses.chunk(2)
        return (ahead - behind) / (2 * mu)

    def used(self, directions: Float[Tensor, "drawn d"]) -> Float[Tensor, "n d"]:
        """All of them."""
        return directions


class OnePoint:
    """D_i = [L(θ+μe_{i+1}) − L(θ+μe_i)]/μ along e_{i+1}, with n+1 losses.

    The paper prints e_i as the direction; then the expectation of the sum is −∇L(θ) and the search would
    climb, so the direction taken here is that of the loss with the plus sign.

    Source: arXiv:2503.14868v1, Eq. (S12).
    """

    def drawn(self, n: int) -> int:
        """Draws n+1 directions: n pairs of neighbours."""
        return n + 1

    def forwards(self, n: int) -> int:
        """n+1 perturbations, never θ itself."""
        return EVALUATIONS["one_point"](n)

    def candidates(
        self, theta: Float[Tensor, " d"], directions: Float[Tensor, "drawn d"], mu: float
    ) -> Float[Tensor, "candidates d"]:
        """θ+μe_1, …, θ+μe_{n+1}."""
        return theta + mu * directions

    def derivatives(self, losses: Float[Tensor, " candidates"], mu: float) -> Float[Tensor, " n"]:
        """Differences of neighbours."""
        return (losses[1:] - losses[:-1]) / mu

    def used(self, directions: Float[Tensor, "drawn d"]) -> Float[Tensor, "n d"]:
        """All but the first."""
        return directions[1:]


@dataclass(frozen=True, eq=False)
class Losses:
    """What derivative="loss_difference" is told: one loss for each candidate."""

    values: Float[Tensor, " candidates"]

    def expected(self, estimator: Estimator, n: int) -> int:
        """How many values a step needs."""
        return estimator.forwards(n)

    def derivatives(self, estimator: Estimator, mu: float) -> Float[Tensor, " n"]:
        """D_i, as the estimator differences them, in double precision."""
        return estimator.derivatives(self.values.detach().to("cpu", torch.float64), mu)


@dataclass(frozen=True, eq=False)
class Derivatives:
    """What derivative="residual" is told: D_i itself, for each of the n directions.

    With r = ε_φ(θ) − ε and Δ_i = ε_φ(θ+μe_i) − ε_φ(θ), D_i = 2⟨Δ_i, r⟩/(N μ). The difference of losses is
    this plus the always-positive ‖Δ_i‖²/(N μ).
    """

    values: Float[Tensor, " n"]

    def expected(self, estimator: Estimator, n: int) -> int:
        """How many values a step needs, whatever the estimator."""
        return n

    def derivatives(self, estimator: Estimator, mu: float) -> Float[Tensor, " n"]:
        """D_i as told, in double precision."""
        return self.values.detach().to("cpu", torch.float64)


def gradient_estimate(
    derivatives: Float[Tensor, " n"], directions: Float[Tensor, "n d"], divisor: float
) -> Float[Tensor, " d"]:
    """ĝ = Σ D_i e_i / divisor, in the directions' precision.

    Source: arXiv:2503.14868v1, Eq. (3).
    """
    return (derivatives.double() @ directions.double() / divisor).to(directions.dtype)


def mean_divisor(n: int, free_dimensions: int) -> float:
    """Divisor n: the estimate is the mean.

    Source: arXiv:2503.14868v1, Eq. (3).
    """
    return float(n)


def dimension_divisor(n: int, free_dimensions: int) -> float:
    """Divisor n·√((d'+n−1)/n), d' being the dimensions that the Subspace Gradient leaves.

    Only in the authors' published script. ‖ĝ‖² exceeds ‖∇L‖² by about (d'+n−1)/n times: this takes it back.
    """
    return n * math.sqrt((free_dimensions + n - 1) / n)


ESTIMATORS: Mapping[EstimatorName, Estimator] = {
    "rge": RandomGradientEstimator(),
    "spsa": SimultaneousPerturbation(),
    "one_point": OnePoint(),
}
MEASUREMENTS: Mapping[DerivativeName, type[Losses] | type[Derivatives]] = {
    "loss_difference": Losses,
    "residual": Derivatives,
}
DIVISORS: Mapping[EstimateScaleName, Callable[[int, int], float]] = {
    "mean": mean_divisor,
    "dimension": dimension_divisor,
}
