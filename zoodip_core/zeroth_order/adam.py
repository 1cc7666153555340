r"""ZOAdam: Adam on an estimated gradient, as a pure function of its state.

$$ m = \beta_1 m + (1-\beta_1) g, \quad v = \beta_2 v + (1-\beta_2) g^2, \quad
   \theta = \theta - \eta_l \frac{m / (1-\beta_1^l)}{\sqrt{v / (1-\beta_2^l)} + \epsilon_{Adam}} $$

The defaults β = (0.9, 0.999) and ε_Adam = 1e-3 appear only in the authors' published script. For mean-squared losses
ε_Adam is about as large as √v, so the scale of the estimate matters.

Source: arXiv:2503.14868v1, Sec. 5.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.config import ScheduleName, SearchSettings


def constant(step: int, steps: int) -> float:
    """Return the factor of η at a step: always 1."""
    return 1.0


def cosine(step: int, steps: int) -> float:
    """Return the factor of η at a step in 1…steps: 1 at the first, almost 0 at the last."""
    return 0.5 + 0.5 * math.cos(math.pi * (step - 1) / steps)


SCHEDULES: Mapping[ScheduleName, Callable[[int, int], float]] = {"constant": constant, "cosine": cosine}


@dataclass(frozen=True, eq=False)
class Moments:
    """Running means of the gradient and of its square, without bias correction."""

    first: Float[Tensor, " d"]
    second: Float[Tensor, " d"]

    @classmethod
    def zeros(cls, theta: Float[Tensor, " d"]) -> Moments:
        """Return the moments before the first step."""
        return cls(torch.zeros_like(theta), torch.zeros_like(theta))


@dataclass(frozen=True)
class ZOAdam:
    """The update rule; the caller holds the state."""

    learning_rate: float
    schedule: Callable[[int, int], float]
    steps: int
    beta1: float
    beta2: float
    adam_eps: float

    @classmethod
    def from_settings(cls, settings: SearchSettings) -> ZOAdam:
        """Return the rule for these settings."""
        return cls(
            learning_rate=settings.learning_rate,
            schedule=SCHEDULES[settings.learning_rate_schedule],
            steps=settings.steps,
            beta1=settings.adam_beta1,
            beta2=settings.adam_beta2,
            adam_eps=settings.adam_eps,
        )

    def update(
        self, theta: Float[Tensor, " d"], gradient: Float[Tensor, " d"], moments: Moments, step: int
    ) -> tuple[Float[Tensor, " d"], Moments]:
        """Return θ and the moments after a step; the arguments are not changed.

        Args:
            theta: Token before the step.
            gradient: Estimate of the gradient of the loss at theta.
            moments: Moments after the previous step.
            step: Number of the step, from 1.
        """
        first = self.beta1 * moments.first + (1 - self.beta1) * gradient
        second = self.beta2 * moments.second + (1 - self.beta2) * gradient.square()
        mean = first / (1 - self.beta1**step)
        deviation = (second / (1 - self.beta2**step)).sqrt()
        eta = self.learning_rate * self.schedule(step, self.steps)
        return theta - eta * mean / (deviation + self.adam_eps), Moments(first, second)
