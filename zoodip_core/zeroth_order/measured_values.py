"""Values that a step measures on its sample, as `derivative` and the search require."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.config import DerivativeName
from zoodip_core.zeroth_order.estimator import Estimator


@dataclass(frozen=True, eq=False)
class Losses:
    """Measurements for derivative="loss_difference": one loss for each candidate."""

    values: Float[Tensor, " candidates"]

    def value_count(self, estimator: Estimator, n: int) -> int:
        """Return the number of values of a step."""
        return estimator.forwards(n)

    def derivatives(self, estimator: Estimator, mu: float) -> Float[Tensor, " n"]:
        """Return the D_i in double precision, from differences of the losses."""
        return estimator.derivatives(self.values.detach().to("cpu", torch.float64), mu)


@dataclass(frozen=True, eq=False)
class Derivatives:
    """Measurements for derivative="residual": D_i for each of the n directions.

    D_i = 2⟨Δ_i, r⟩/(N μ) with r = ε_φ(θ) − ε and Δ_i = ε_φ(θ+μe_i) − ε_φ(θ). N is the number of output values.
    The loss difference is this value plus the positive term ‖Δ_i‖²/(N μ).
    """

    values: Float[Tensor, " n"]

    def value_count(self, estimator: Estimator, n: int) -> int:
        """Return n, for every estimator."""
        return n

    def derivatives(self, estimator: Estimator, mu: float) -> Float[Tensor, " n"]:
        """Return the D_i in double precision."""
        return self.values.detach().to("cpu", torch.float64)


@dataclass(frozen=True, eq=False)
class Curvature(Derivatives):
    """Measurements of a Gauss–Newton search.

    Attributes:
        matrix: curvature M_ij = 2⟨Δ_i, Δ_j⟩/(N μ²) between the directions.
        losses: loss of each candidate, that of θ first.
    """

    matrix: Float[Tensor, "n n"]
    losses: Float[Tensor, " candidates"]

    def first(self, count: int) -> Curvature:
        """Return the measurements of the first directions."""
        return Curvature(self.values[:count], self.matrix[:count, :count], self.losses[: count + 1])


MEASUREMENTS: Mapping[DerivativeName, type[Losses] | type[Derivatives]] = {
    "loss_difference": Losses,
    "residual": Derivatives,
}
