r"""Gradient estimates from losses alone: finite differences along random directions.

For directions $e_i \in \mathbb{R}^d$ and the step length $\mu$, every estimator gives

$$ \hat g = \frac{1}{s} \sum_{i=1}^{n} D_i \, e_i, \qquad D_i \approx \langle \nabla L(\theta), e_i \rangle $$

The estimators differ in how they measure $D_i$. The divisor $s$ is $n$ in the paper. All losses of one estimate share
latent, noise, timestep and caption.

Source: arXiv:2503.14868v1, Eq. (3), (S11), (S12).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.config import EVALUATIONS, EstimateScaleName, EstimatorName


@runtime_checkable
class Estimator(Protocol):
    """Interface of a gradient estimator.

    It selects the candidates to evaluate and turns their losses into directional derivatives D_i.
    """

    def direction_count(self, n: int) -> int:
        """Return the number of directions to draw for an estimate along n directions."""
        ...

    def forwards(self, n: int) -> int:
        """Return the number of losses: U-Net evaluations of one estimate."""
        ...

    def candidates(
        self, theta: Float[Tensor, " d"], directions: Float[Tensor, "drawn d"], mu: float
    ) -> Float[Tensor, "candidates d"]:
        """Return the candidates to evaluate as new tensors.

        Args:
            theta: Current token.
            directions: `direction_count(n)` random directions, one a row.
            mu: Step length of the finite differences, above 0.
        """
        ...

    def derivatives(self, losses: Float[Tensor, " candidates"], mu: float) -> Float[Tensor, " n"]:
        """Return the D_i.

        Args:
            losses: One loss for each candidate, in the order of `candidates`.
            mu: The step length that `candidates` received.
        """
        ...

    def derivative_directions(self, directions: Float[Tensor, "drawn d"]) -> Float[Tensor, "n d"]:
        """Return the directions e_i of the D_i, in the same order."""
        ...


class RandomGradientEstimator:
    """Random gradient estimator (RGE): D_i = [L(θ+μe_i) − L(θ)]/μ, from n + 1 losses.

    Source: arXiv:2503.14868v1, Eq. (3).
    """

    def direction_count(self, n: int) -> int:
        """Return n."""
        return n

    def forwards(self, n: int) -> int:
        """Return n + 1: θ and n perturbations."""
        return EVALUATIONS["rge"](n)

    def candidates(
        self, theta: Float[Tensor, " d"], directions: Float[Tensor, "drawn d"], mu: float
    ) -> Float[Tensor, "candidates d"]:
        """Return θ, θ+μe_1, …, θ+μe_n."""
        return torch.cat([theta[None], theta + mu * directions])

    def derivatives(self, losses: Float[Tensor, " candidates"], mu: float) -> Float[Tensor, " n"]:
        """Return forward differences."""
        return (losses[1:] - losses[0]) / mu

    def derivative_directions(self, directions: Float[Tensor, "drawn d"]) -> Float[Tensor, "n d"]:
        """Return all directions."""
        return directions


class SimultaneousPerturbation:
    """SPSA: D_i = [L(θ+μe_i) − L(θ−μe_i)]/(2μ), from 2n losses.

    Source: arXiv:2503.14868v1, Eq. (S11).
    """

    def direction_count(self, n: int) -> int:
        """Return n."""
        return n

    def forwards(self, n: int) -> int:
        """Return 2n: both sides of each direction."""
        return EVALUATIONS["spsa"](n)

    def candidates(
        self, theta: Float[Tensor, " d"], directions: Float[Tensor, "drawn d"], mu: float
    ) -> Float[Tensor, "candidates d"]:
        """Return θ+μe_1, …, θ+μe_n, θ−μe_1, …, θ−μe_n."""
        return torch.cat([theta + mu * directions, theta - mu * directions])

    def derivatives(self, losses: Float[Tensor, " candidates"], mu: float) -> Float[Tensor, " n"]:
        """Return central differences."""
        plus, minus = losses.chunk(2)
        return (plus - minus) / (2 * mu)

    def derivative_directions(self, directions: Float[Tensor, "drawn d"]) -> Float[Tensor, "n d"]:
        """Return all directions."""
        return directions


class OnePoint:
    """One-point estimator: D_i = [L(θ+μe_{i+1}) − L(θ+μe_i)]/μ along e_{i+1}, from n + 1 losses.

    The paper prints e_i as the direction. The expectation of the sum would then be −∇L(θ), and the search would
    ascend. The direction here is that of the loss with the plus sign.

    Source: arXiv:2503.14868v1, Eq. (S12).
    """

    def direction_count(self, n: int) -> int:
        """Return n + 1: n pairs of adjacent directions."""
        return n + 1

    def forwards(self, n: int) -> int:
        """Return n + 1: perturbations only, without θ."""
        return EVALUATIONS["one_point"](n)

    def candidates(
        self, theta: Float[Tensor, " d"], directions: Float[Tensor, "drawn d"], mu: float
    ) -> Float[Tensor, "candidates d"]:
        """Return θ+μe_1, …, θ+μe_{n+1}."""
        return theta + mu * directions

    def derivatives(self, losses: Float[Tensor, " candidates"], mu: float) -> Float[Tensor, " n"]:
        """Return differences of adjacent losses."""
        return (losses[1:] - losses[:-1]) / mu

    def derivative_directions(self, directions: Float[Tensor, "drawn d"]) -> Float[Tensor, "n d"]:
        """Return all directions but the first."""
        return directions[1:]


def gradient_estimate(
    derivatives: Float[Tensor, " n"], directions: Float[Tensor, "n d"], divisor: float
) -> Float[Tensor, " d"]:
    """Return ĝ = Σ D_i e_i / divisor, summed in double precision.

    Args:
        derivatives: The D_i.
        directions: The e_i, in the same order; the estimate has their dtype.
        divisor: n for the mean; see `DIVISORS`.

    Source: arXiv:2503.14868v1, Eq. (3).
    """
    return (derivatives.double() @ directions.double() / divisor).to(directions.dtype)


def mean_divisor(n: int, free_dimensions: int) -> float:
    """Return the divisor n: the estimate is the mean.

    Source: arXiv:2503.14868v1, Eq. (3).
    """
    return float(n)


def dimension_divisor(n: int, free_dimensions: int) -> float:
    """Return the divisor n·√((d'+n−1)/n), where d' dimensions remain after Subspace Gradient.

    It appears only in the authors' published script. The mean has ‖ĝ‖² ≈ (d'+n−1)/n · ‖∇L‖². This divisor gives ĝ
    about the length of the gradient.
    """
    return n * math.sqrt((free_dimensions + n - 1) / n)


ESTIMATORS: Mapping[EstimatorName, Estimator] = {
    "rge": RandomGradientEstimator(),
    "spsa": SimultaneousPerturbation(),
    "one_point": OnePoint(),
}
DIVISORS: Mapping[EstimateScaleName, Callable[[int, int], float]] = {
    "mean": mean_divisor,
    "dimension": dimension_divisor,
}
