"""Steps that replace the filter of a calibrated search, on the same coordinates and measurements.

The comparison of its starts and the average of its tokens stay.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.zeroth_order.adam import Moments
from zoodip_core.zeroth_order.estimator import gradient_estimate
from zoodip_core.zeroth_order.gauss_newton import GaussNewtonSearch
from zoodip_core.zeroth_order.measured_values import Curvature

MOMENTUM = 0.9


class AdamSteps(GaussNewtonSearch):
    """Adam, whose learning rate is in standard deviations of a coordinate."""

    rate = 0.1

    def _start_from(self, u: Float[Tensor, " d"]) -> None:
        """Forget the moments as well."""
        super()._start_from(u)
        self._moments = Moments.zeros(u)

    def _filter(self, measured: Curvature, directions: Float[Tensor, "n d"]) -> None:
        """Take Adam's step along the estimate of the gradient."""
        estimate = gradient_estimate(measured.values, directions, float(len(directions)))
        adam = replace(self._adam, learning_rate=self.rate)
        self._u, self._moments = adam.update(self._u, estimate, self._moments, self._step + 1)


class MomentumSteps(AdamSteps):
    """Damped Gauss–Newton steps between the sampled directions, averaged by momentum; `rate` shortens them."""

    rate = 0.3

    def _filter(self, measured: Curvature, directions: Float[Tensor, "n d"]) -> None:
        """Move by the mean of the steps, which is kept as the first moment. The damping is the mean curvature."""
        matrix = measured.matrix.double()
        damped = matrix + matrix.diagonal().mean() * torch.eye(len(matrix), dtype=torch.float64)
        amounts = torch.linalg.solve(damped, -measured.values.double())
        mean = torch.lerp((amounts @ directions.double()).float(), self._moments.first, MOMENTUM)
        self._moments = replace(self._moments, first=mean)
        self._u = self._u + self.rate * mean


def with_rate(search: type[AdamSteps], rate: float) -> type[AdamSteps]:
    """Return the search with another length of its steps; its name has the rate."""
    return type(f"{search.__name__}{rate:g}", (search,), {"rate": rate})
