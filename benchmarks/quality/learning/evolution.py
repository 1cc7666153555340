"""Learn the cases of a method with CMA-ES in the principal directions of the vocabulary, for comparison.

This is the idea of gradient-free Textual Inversion (arXiv:2304.05818): an evolution strategy searches a token in the
directions in which the vocabulary varies most. Each generation measures the losses of all its tokens on one sample.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from cmaes import CMA
from jaxtyping import Float
from torch import Tensor

from benchmarks.quality.cases.protocols import TOKEN, Learnable
from benchmarks.quality.learning.forward import begin_all, diverged, draw_sample, validation_loss
from zoodip_core.calibration.vocabulary_prior import embedding_table
from zoodip_core.calibration_file import principal_directions
from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.denoising import row_losses
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.engine import Engine
from zoodip_core.errors import LossNotFiniteError
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.samples import Sample, candidates_request

DIRECTIONS = 32
POPULATION = 14
"""Tokens of a generation: the default of CMA-ES for 32 dimensions, 4 + ⌊3 ln 32⌋."""
SIGMA = 1.0
"""Initial step, relative to the deviation along each direction. Chosen on EmojiBooth's validation split."""


class EvolutionLearner:
    """CMA-ES on every case, with one engine pass for each generation of a case.

    A resumed run replays the losses of the generations so far, so the state needs nothing of CMA-ES itself.
    """

    def __init__(
        self,
        bundle: Bundle,
        cases: Sequence[Learnable],
        settings: Sequence[PersonalizationSettings],
        state: dict[str, Tensor] | None = None,
    ) -> None:
        self._bundle, self._engine = bundle, Engine(bundle)
        self._names = [case.name for case in cases]
        self._data = begin_all(bundle, cases, settings)
        self._starts = torch.stack([one.search.theta for one in self._data])
        self._directions = vocabulary_directions(bundle)
        zeros = np.zeros(len(self._directions))
        self._strategies = [
            CMA(mean=zeros, sigma=SIGMA, population_size=POPULATION, seed=one.seed % 2**32)
            for one in settings
        ]
        self._generators = [torch.Generator().manual_seed(one.seed) for one in settings]
        self._losses = torch.zeros(0, len(cases), POPULATION)
        if state is not None:
            self._replay(state["losses"])

    @property
    def step(self) -> int:
        """Return the number of completed generations."""
        return len(self._losses)

    @property
    def forwards_per_step(self) -> int:
        """Return the tokens of one generation of one case."""
        return POPULATION

    def advance(self) -> None:
        """Run one generation of every case.

        Raises:
            BenchmarkError: a loss is not finite.
        """
        losses = [self._generation(index) for index in range(len(self._data))]
        self._losses = torch.cat([self._losses, torch.stack(losses)[None]])

    def _generation(self, index: int) -> Float[Tensor, " population"]:
        """Measure one generation of a case, and adapt its distribution."""
        search, sample = self._data[index], self._draw(index)
        asked = self._ask(index)
        tokens = self._starts[index] + torch.tensor(np.stack(asked)).float() @ self._directions
        (predicted,) = self._engine.evaluate(
            [candidates_request(self._bundle.prompts, sample, TOKEN, tokens, search.settings.vectors)]
        )
        losses = row_losses(predicted, sample.target.expand_as(predicted)).cpu()
        if not losses.isfinite().all():
            raise diverged(self._names[index], LossNotFiniteError())
        self._tell(index, asked, losses)
        return losses

    def _draw(self, index: int) -> Sample:
        """Draw the sample that a generation shares."""
        settings = self._data[index].settings
        return draw_sample(self._data[index], self._generators[index], (settings.t_low, settings.t_high))

    def _ask(self, index: int) -> list[np.ndarray]:
        return [self._strategies[index].ask() for _ in range(POPULATION)]

    def _tell(self, index: int, asked: Sequence[np.ndarray], losses: Float[Tensor, " population"]) -> None:
        self._strategies[index].tell(list(zip(asked, losses.tolist(), strict=True)))

    def _replay(self, losses: Float[Tensor, "generations cases population"]) -> None:
        """Repeat the generations with these losses, without the model."""
        for generation in losses:
            for index, found in enumerate(generation):
                self._draw(index)
                self._tell(index, self._ask(index), found)
        self._losses = losses.clone()

    def tokens(self) -> Float[Tensor, "cases flat"]:
        """Return the mean of each distribution."""
        means = torch.tensor(np.stack([one.mean for one in self._strategies])).float()
        return self._starts + means @ self._directions

    def validation_losses(self) -> list[float]:
        """Return the validation loss of each case."""
        pairs: list[tuple[Personalization, Tensor]] = list(zip(self._data, self.tokens(), strict=True))
        return [validation_loss(self._bundle, search, token) for search, token in pairs]

    def state(self) -> dict[str, Tensor]:
        """Return the losses of all generations."""
        return {"losses": self._losses.clone()}


def vocabulary_directions(bundle: Bundle) -> Float[Tensor, "directions flat"]:
    """Return the leading principal directions of the embedding tables, with the length of their deviations."""
    table = embedding_table(bundle)
    centered = (table - table.mean(dim=0)) / len(table) ** 0.5
    basis, scales = principal_directions(centered, DIRECTIONS)
    return scales[:, None] * basis
