"""Learn all cases of a method together with forward passes, in the engine's batches."""

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
from zoodip_core.personalization.samples import Sample, samples_request


class BatchedLearner(Protocol):
    """Searches that step together."""

    @property
    def step(self) -> int:
        """Return the number of completed steps."""

    @property
    def forwards_per_step(self) -> int:
        """Return the U-Net evaluations of one step of one case; a backward pass counts as two."""

    def advance(self) -> None:
        """Run one step of every case."""

    def tokens(self) -> Float[Tensor, "cases flat"]:
        """Return the current token vectors."""

    def validation_losses(self) -> list[float]:
        """Return the validation loss of each case."""

    def state(self) -> dict[str, Tensor]:
        """Return the state from which a resumed run continues with the same bits."""


def begin_all(
    bundle: Bundle,
    cases: Sequence[Learnable],
    settings: Sequence[PersonalizationSettings],
    states: Sequence[dict[str, Tensor] | None] | None = None,
) -> list[Personalization]:
    """Create a personalization for each case with its settings, or restore it from its state."""
    return [
        Personalization.begin(bundle, case.subject, case.references, chosen, state)
        for case, chosen, state in zip(cases, settings, states or [None] * len(cases), strict=True)
    ]


class ForwardLearner:
    """Algorithm 1 on every case, with one engine step for all."""

    def __init__(
        self,
        bundle: Bundle,
        cases: Sequence[Learnable],
        settings: Sequence[PersonalizationSettings],
        state: dict[str, Tensor] | None = None,
    ) -> None:
        states = None if state is None else [_part(state, index) for index in range(len(cases))]
        self._names = [case.name for case in cases]
        self._searches = begin_all(bundle, cases, settings, states)
        self._engine = Engine(bundle)

    @property
    def step(self) -> int:
        """Return the number of completed steps."""
        return self._searches[0].step

    @property
    def forwards_per_step(self) -> int:
        """Return the number of candidates of one proposal."""
        return self._searches[0].search.forwards_per_step

    def advance(self) -> None:
        """Run one step of every search.

        Raises:
            BenchmarkError: a search diverged.
        """
        for name, error in zip(self._names, self._engine.step(self._searches), strict=True):
            if isinstance(error, ZoodipError):
                raise diverged(name, error) from error
            if error is not None:
                raise error

    def tokens(self) -> Float[Tensor, "cases flat"]:
        """Return θ of every search."""
        return torch.stack([search.search.theta for search in self._searches])

    def validation_losses(self) -> list[float]:
        """Return the validation loss of each search."""
        return [search.measure_validation_loss() for search in self._searches]

    def state(self) -> dict[str, Tensor]:
        """Return the states of all searches, prefixed with their number."""
        numbered = enumerate(search.state() for search in self._searches)
        return {f"{index}/{name}": tensor for index, state in numbered for name, tensor in state.items()}


def draw_sample(search: Personalization, generator: torch.Generator, timesteps: tuple[int, int]) -> Sample:
    """Draw a training sample of a case.

    Args:
        search: the case.
        generator: source of all random numbers.
        timesteps: lowest timestep and end, exclusive.
    """
    limits = (
        (0, len(search.references.posteriors)),
        (0, 2 if search.settings.flip else 1),
        timesteps,
        (0, 2**62),
    )
    image, flipped, timestep, seed = (
        int(torch.randint(low, high, (), generator=generator)) for low, high in limits
    )
    return search.references.draw(image, flipped=bool(flipped), timestep=timestep, seed=seed)


def validation_loss(bundle: Bundle, search: Personalization, token: Float[Tensor, " flat"]) -> float:
    """Return the loss of a token on the validation set of a case."""
    request = samples_request(bundle.prompts, search.validation_set, TOKEN, token, search.settings.vectors)
    predicted = Engine(bundle).evaluate([request])[0]
    targets = torch.stack([sample.target for sample in search.validation_set])
    return float(row_losses(predicted, targets).mean())


def _part(state: dict[str, Tensor], index: int) -> dict[str, Tensor]:
    """Return the state of one search."""
    start = f"{index}/"
    return {name.removeprefix(start): tensor for name, tensor in state.items() if name.startswith(start)}


def diverged(name: str, error: ZoodipError) -> BenchmarkError:
    """Return the error for a search whose loss is not finite."""
    return BenchmarkError(f"{name}: {error.message}; choose a smaller learning_rate with --set")
