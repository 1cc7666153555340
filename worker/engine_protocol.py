"""Interface between the worker and its engine, so that service tests can use a stub without models."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

from zoodip_core.artifact import Concept
from zoodip_core.fair_shares import Drawing
from zoodip_core.personalization.recovery import Recovery
from zoodip_core.service.concepts import ConceptRecord
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.settings import ServiceSettings

Activity = Literal["step", "measure", "preview"]


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """Generated image as a PNG file, with its seed and the index of its prompt in a prompt set."""

    png: bytes
    seed: int
    prompt_index: int = 0


class JobSearch(Protocol):
    """One personalization in memory."""

    @property
    def step(self) -> int:
        """Number of completed steps."""

    @property
    def done(self) -> bool:
        """Whether the search has ended."""

    @property
    def activity(self) -> Activity:
        """Stage of its next unit of work. It measures and draws before it takes the next step."""

    @property
    def rows(self) -> int:
        """Rows (U-Net evaluations) of its next unit of work; 0 if that decodes an image."""

    @property
    def cells(self) -> int:
        """Latent cells of its next unit of work, as `FairShares` counts them."""

    @property
    def parameters(self) -> int:
        """Parameters of the U-Net."""

    @property
    def fixed_losses(self) -> Sequence[float]:
        """Validation losses: before the search, then at each measurement. A new search has none."""

    def on_recovery(self, notify: Callable[[Recovery], None]) -> None:
        """Call `notify` whenever the search recovers from a loss that is not finite."""

    def begin_measurement(self) -> None:
        """Start to measure the validation loss of the current token; at the end it is in `fixed_losses`."""

    def state(self) -> bytes:
        """Return the checkpoint from which a resumed search gives bit-identical results."""

    def begin_preview(self) -> None:
        """Start to draw an image with the current token and a fixed seed."""

    def take_preview(self) -> bytes:
        """Return the drawn preview as PNG.

        Raises:
            ContentFilteredError: the safety checker of the base model withheld it.
        """

    def concept(self) -> Concept:
        """Return the learned concept."""


class JobGeneration(Drawing, Protocol):
    """One generation in memory. Its units of work are rows of a step, or the decoding of an image."""

    @property
    def step(self) -> int:
        """Number of completed denoising steps."""

    @property
    def done(self) -> bool:
        """Whether all images are drawn."""

    @property
    def decodes_next(self) -> bool:
        """Whether its next unit of work decodes an image."""

    @property
    def images(self) -> Sequence[EncodedImage]:
        """Images that are drawn so far and not withheld, in the order of their seeds."""

    @property
    def withheld(self) -> Sequence[int]:
        """Seeds of the images so far that the safety checker of the base model withheld."""

    def partial_image(self) -> bytes | None:
        """Return the estimate of the first image as PNG; at least one step must be complete.

        Return None if the safety checker flags it.
        """


class JobEngine(Protocol):
    """Engine that holds base models. Only the engine thread of the worker calls it, except for `gauges`."""

    def begin(self, job: Job, images: Sequence[bytes], state: bytes | None) -> JobSearch:
        """Start the search of a job, or resume it from a checkpoint."""

    @property
    def overhead_work(self) -> int:
        """Work that takes as long as the fixed cost of a forward pass, as `FairShares` counts it."""

    def step(
        self, searches: Sequence[JobSearch], turns: Sequence[tuple[JobGeneration, int]]
    ) -> list[Exception | None]:
        """Run one unit of work of every search, and some of every generation, in shared forward passes.

        Args:
            searches: searches on one base model.
            turns: generations on the same base model, each with its number of units.

        Returns:
            An error or None for each search, then for each generation. Errors that are not a `ZoodipError` are
            defects.
        """

    def begin_generation(self, job: Job, concepts: Sequence[tuple[ConceptRecord, Concept]]) -> JobGeneration:
        """Start the generation of a job with the concepts of its prompt; nothing is drawn yet."""

    def trim(self) -> None:
        """Free base models that no search and no generation uses, as far as the memory budget requires."""

    def gauges(self) -> dict[str, float]:
        """Return current measurements for /metrics, such as memory use."""


def load_engine(settings: ServiceSettings) -> JobEngine:
    """Create the engine that the settings name as `module:factory`."""
    module, _, name = settings.engine.partition(":")
    factory = cast("Callable[[Any], JobEngine]", getattr(importlib.import_module(module), name))
    return factory(settings)
