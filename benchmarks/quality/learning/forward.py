"""All cases of one method, learned together, by forward passes in the engine's batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.quality.cases.protocols import TOKEN, Learnable
from benchmarks.quality.errors import BenchmarkError
from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.denoising import row_losses
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.engine import Engine
from zoodip_core.errors import ZoodipError
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.samples import samples_request


class Cohort(Protocol):
    """Searches that step together."""

    @property
    def step(self) -> int:
        """Completed steps."""

    @property
    def forwards_per_step(self) -> int:
        """U-Net forwards of one step of one case; a backward pass counts as two."""

    def advance(self) -> None:
        """One step of every case."""

    def tokens(self) -> Float[Tensor, "cases flat"]:
        """The learned vectors as they are."""

    def fixed_losses(self) -> list[float]:
        """Each case's loss on its fixed set."""

    def state(self) -> dict[str, Tensor]:
        """All that a resumed run needs for the same bits."""


def begin_all(
    bundle: Bundle,
    cases: Sequence[Learnable],
    settings: PersonalizationSettings,
    states: Sequence[dict[str, Tensor] | None] | None = None,
) -> list[Personalization]:
    """A personalization of each case, new or restored."""
    return [
        Personalization.begin(bundle, case.subject, case.references, settings, state)
        for case, state in zip(cases, states or [None] * len(cases), strict=True)
    ]


class ForwardCohort:
    """Algorithm 1 on every case, one engine step for all."""

    def __init__(
        self,
        bundle: Bundle,
        cases: Sequence[Learnable],
        settings: PersonalizationSettings,
        state: dict[str, Tensor] | None = None,
    ) -> None:
        states = None if state is None else [_part(state, index) for index in range(len(cases))]
        self._names = [case.name for case in cases]
        self._searches = begin_all(bundle, cases, settings, states)
        self._engine = Engine(bundle)

    @property
    def step(self) -> int:
        """Completed steps."""
        return self._searches[0].step

    @property
    def forwards_per_step(self) -> int:
        """Candidates of one proposal."""
        return self._searches[0].search.forwards_per_step

    def advance(self) -> None:
        """One step of every search.

        Raises:
            BenchmarkError: a search diverged; says which.
        """
        for name, error in zip(self._names, self._engine.step(self._searches), strict=True):
            if error is not None:
                raise diverged(name, error) from error

    def tokens(self) -> Float[Tensor, "cases flat"]:
        """θ of every search."""
        return torch.stack([search.search.theta for search in self._searches])

    def fixed_losses(self) -> list[float]:
        """Each search's loss on its fixed set."""
        return [search.measure_validation_loss() for search in self._searches]

    def state(self) -> dict[str, Tensor]:
        """The states of all searches, numbered."""
        numbered = enumerate(search.state() for search in self._searches)
        return {f"{index}/{name}": tensor for index, state in numbered for name, tensor in state.items()}


def fixed_loss(bundle: Bundle, search: Personalization, token: Float[Tensor, " flat"]) -> float:
    """The loss of a token on the fixed set of a case."""
    request = samples_request(bundle.prompts, search.validation_set, TOKEN, token, search.settings.vectors)
    predicted = Engine(bundle).evaluate([request])[0]
    return float(
        row_losses(predicted, torch.stack([sample.target for sample in search.validation_set])).mean()
    )


def _part(state: dict[str, Tensor], index: int) -> dict[str, Tensor]:
    """The numbered state of one search."""
    start = f"{index}/"
    return {name.removeprefix(start): tensor for name, tensor in state.items() if name.startswith(start)}


def diverged(name: str, error: ZoodipError) -> BenchmarkError:
    """What a search whose loss is no number is told as."""
    return BenchmarkError(f"{name}: {error.message}; with --set choose a smaller learning_rate")
