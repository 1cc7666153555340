r"""Damped Gauss–Newton steps in a calibrated space, as a Kalman filter of its coordinates.

A calibration knows how far learned tokens move, u* ~ N(0, I), and the shape H of the loss's mean curvature. One
step measures the derivatives D_i of the loss of a sample along n directions, the rows of E. The same predictions give
the sample's own curvature between these directions, M. The sample's loss is modeled as a quadratic:

$$ D = A (u - u^*) + \text{noise}, \qquad \text{noise} \sim N(0, \kappa M), \qquad
   A = M \, (E H E^\top + \lambda I)^{-1} E H, \qquad M_{ij} = \frac{2}{N \mu^2} \langle \Delta_i, \Delta_j \rangle $$

A has the measured curvature along E and continues it as H does. If M is proportional to E H Eᵀ, A is proportional to
E H. The filter returns the mean and covariance P of u* given all measurements so far:

$$ K = P A^\top \big( A P A^\top + \kappa M \big)^{-1}, \qquad
   u \leftarrow u - K D, \qquad P \leftarrow P - K A P $$

H starts as that of the calibration. Each sample moves it towards its own curvature, of which only the block M is
known. M' is M scaled to the trace of E H Eᵀ:

$$ H \leftarrow H + \eta \, G \, (M' - E H E^\top) \, G^\top, \qquad G = H E^\top (E H E^\top + \lambda I)^{-1} $$

The steepest direction dominates each D_i, so in a plain estimate it is noise for all other directions. The filter
separates them. Its steps become shorter as P falls. P grows again in each step, because the loss is not
quadratic. The growth is annealed.

A single step can go too far, and the next one comes back. So the token of the search is an average of u whose weights
fall with age, the polynomial-decay averaging of Shamir and Zhang (arXiv:1212.1824):

$$ \bar u_k = (1 - w_k) \, \bar u_{k-1} + w_k \, u_k, \qquad w_k = \frac{1 + \gamma}{k + \gamma} $$

A space can have several starts, such as the predicted and the initial token. The first steps also evaluate the
others, in place of directions. If the losses of one are lower, the search starts again from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.config import SearchSettings
from zoodip_core.errors import InvalidCheckpointError
from zoodip_core.zeroth_order.measured_values import Curvature, Derivatives, Losses
from zoodip_core.zeroth_order.search import TokenSearch
from zoodip_core.zeroth_order.search_space import (
    NOISE,
    REMAINDER,
    REMAINDER_CURVATURE,
    CalibratedSearchSpace,
)
from zoodip_core.zeroth_order.start_comparison import SAMPLES, StartComparison

DAMPING = 0.05
"""λ, relative to the mean of the diagonal of E H Eᵀ, whose small eigenvalues are uncertain."""
ADAPTATION = 0.04
"""Weight of each measured direction in H: η = 1 − (1 − 0.04)ⁿ. Chosen on EmojiBooth's validation split."""
DRIFT = 0.005
"""Growth of P for each direction of the first step. Chosen on EmojiBooth's validation split."""
DRIFT_HALVES_AFTER = 250
"""Directions after which the growth is half as large. With constant growth a long search can lose its subject."""
AVERAGING = 15
"""γ: a sixteenth of the steps dominates the average. Chosen on EmojiBooth's validation split."""
MAX_STEP = 1.0
"""Longest step, in standard deviations of a coordinate. Chosen on EmojiBooth's validation split."""
CONSTANTS = (
    *(NOISE, DAMPING, ADAPTATION, DRIFT, DRIFT_HALVES_AFTER, AVERAGING, MAX_STEP, SAMPLES),
    *(REMAINDER, REMAINDER_CURVATURE),
)
"""All constants of a calibrated search with captions, for the identity of a measured one."""
S = TypeVar("S", bound="GaussNewtonSearch")


class GaussNewtonSearch(TokenSearch):
    """Search with the samples of Algorithm 1 and the steps of the filter.

    Args:
        theta: as for `TokenSearch`.
        settings: those of the samples, directions and μ apply; those of the optimizer and the subspace do not.
        space: the calibrated space.
        **others: as for `TokenSearch`.
    """

    def __init__(
        self,
        theta: Float[Tensor, " d"],
        settings: SearchSettings,
        *,
        space: CalibratedSearchSpace,
        **others: Any,
    ) -> None:
        super().__init__(theta, settings, space=space, **others)
        self._measurement = Curvature
        self._calibrated = space
        self._comparison = StartComparison(space.other_starts, settings.n, settings.steps)
        self._start_from(self._u)

    def _start_from(self, u: Float[Tensor, " d"]) -> None:
        """Forget all measurements, and continue from coordinates."""
        self._u = self._average = u
        self._curvature = self._calibrated.curvature
        self._covariance = torch.eye(len(u), dtype=torch.float64)

    @property
    def theta(self) -> Float[Tensor, " d"]:
        """Copy of the current token: that of the averaged coordinates."""
        return self._space.embed(self._average).clone()

    def _draw_directions(self, count: int, generator: torch.Generator) -> Float[Tensor, "n d"]:
        """Return random directions. In the first steps the last ones lead to other starts."""
        directions = super()._draw_directions(count, generator)
        starts = self._comparison.evaluated(self._step)
        directions[count - len(starts) :] = (starts - self._u) / self._settings.mu
        return directions

    def _update(self, measured: Losses | Derivatives, directions: Float[Tensor, "n d"]) -> None:
        """Take the filter's step with the random directions, and compare the starts."""
        assert isinstance(measured, Curvature), "checked by tell()"
        self._check_finite(measured.losses, measured.values, measured.matrix.square())
        count = len(directions) - len(self._comparison.evaluated(self._step))
        if count:
            self._filter(measured.first(count), directions[:count])
        self._comparison.record(self._step, measured.losses)
        self._step += 1
        self._average = torch.lerp(self._average, self._u, (1 + AVERAGING) / (self._step + AVERAGING))
        if self._step == self._comparison.steps and (better := self._comparison.better()) is not None:
            self._start_from(better)

    def _filter(self, measured: Curvature, directions: Float[Tensor, "n d"]) -> None:
        """Take the filter's step, and adapt the curvature to the sample."""
        grown = self._covariance.clone()
        grown.diagonal().add_(drift(self._step, len(directions)))
        drawn = directions.double()
        continued = regression(self._curvature, drawn)
        move, covariance = filter_step(grown, continued, measured, self._calibrated.noise)
        self._curvature = adapted_curvature(self._curvature, drawn, continued, measured)
        shrink = min(1.0, MAX_STEP / max(float(move.norm()), 1e-300))
        self._u = self._u + (shrink * move).float()
        self._covariance = covariance

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that `restore` needs."""
        filtered = {
            "filter.covariance": self._covariance,
            "filter.curvature": self._curvature,
            "filter.average": self._average,
            "filter.start_losses": self._comparison.sums,
        }
        return super().state() | {name: tensor.clone() for name, tensor in filtered.items()}

    @classmethod
    def restore(cls: type[S], state: Mapping[str, Tensor], settings: SearchSettings, **others: Any) -> S:
        """Return a search that continues from a saved state, as `TokenSearch.restore` does.

        Raises:
            InvalidCheckpointError: as for `TokenSearch`, or only one of the two searches compares starts.
        """
        comparison = StartComparison(others["space"].other_starts, settings.n, settings.steps)
        if len(state.get("filter.start_losses", ())) != len(comparison.sums):
            raise InvalidCheckpointError.mismatch(
                "steps",
                got=settings.steps,
                expected="the checkpoint's, because a short search does not compare its starts",
            )
        search = super().restore(state, settings, **others)
        search._covariance = state["filter.covariance"].cpu().clone()
        search._curvature = state["filter.curvature"].cpu().clone()
        search._average = state["filter.average"].cpu().clone()
        search._comparison.sums = state["filter.start_losses"].cpu().clone()
        return search


def drift(step: int, n: int) -> float:
    """Return the growth of P before a step of n directions; `step` counts from 0."""
    return DRIFT * n / (1 + step * n / DRIFT_HALVES_AFTER)


def filter_step(
    covariance: Float[Tensor, "d d"], continued: Float[Tensor, "n d"], measured: Curvature, noise: float
) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Return the move −K D and P after the measurement, all in double precision.

    A sample that does not depend on the token changes nothing.

    Args:
        covariance: P before the measurement.
        continued: Gᵀ of `regression`.
        measured: the sample's derivatives and curvature along the directions.
        noise: κ.
    """
    matrix = measured.matrix.double()
    observed = matrix @ continued
    seen = observed @ covariance  # n × d first: a product of two d × d matrices would take much longer
    gain_inverse = seen @ observed.T + noise * matrix
    gain = torch.linalg.lstsq(gain_inverse, seen).solution.T
    return -gain @ measured.values.double(), torch.addmm(covariance, gain, seen, alpha=-1)


def regression(
    curvature: Float[Tensor, "d d"], directions: Float[Tensor, "n d"], damping: float = DAMPING
) -> Float[Tensor, "n d"]:
    """Return Gᵀ = (E H Eᵀ + λI)⁻¹ E H, which continues a measurement along E to all directions."""
    along = directions @ curvature
    expected = along @ directions.T
    ridge = damping * expected.trace() / len(expected) * torch.eye(len(expected), dtype=torch.float64)
    continued: Tensor = torch.linalg.solve(expected + ridge, along)
    return continued


def adapted_curvature(
    curvature: Float[Tensor, "d d"],
    directions: Float[Tensor, "n d"],
    continued: Float[Tensor, "n d"],
    measured: Curvature,
) -> Float[Tensor, "d d"]:
    """Return H after a sample, of the same trace. A sample that does not depend on the token changes nothing.

    Args:
        curvature: H before the sample.
        directions: E.
        continued: Gᵀ of `regression`.
        measured: the sample's derivatives and curvature along the directions.
    """
    matrix, expected = measured.matrix.double(), directions @ curvature @ directions.T
    if not float(matrix.trace()) > 0:
        return curvature
    change = matrix * (expected.trace() / matrix.trace()) - expected
    trace = curvature.trace()
    sampled = trace + (change @ continued @ continued.T).trace()
    kept = (1 - ADAPTATION) ** len(directions)
    weight = (1 - kept) * float(trace / sampled)
    return torch.addmm(curvature, continued.T, change @ continued, beta=kept + weight, alpha=weight)
