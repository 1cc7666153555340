"""Interface between the worker and its engine, so that service tests can use a stub without models."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from zoodip_core.artifact import Concept
from zoodip_core.errors import ZoodipError
from zoodip_core.personalization.recovery import Recovery
from zoodip_core.service.concepts import ConceptRecord
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.settings import ServiceSettings


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """Generated image as a PNG file, with its seed."""

    png: bytes
    seed: int


class JobSearch(Protocol):
    """One personalization in memory."""

    @property
    def step(self) -> int:
        """Number of completed steps."""

    @property
    def done(self) -> bool:
        """Whether the search has ended."""

    @property
    def rows_per_step(self) -> int:
        """Number of U-Net evaluations in one step."""

    @property
    def fixed_losses(self) -> Sequence[float]:
        """Validation losses: before the search, then at each measurement."""

    def on_recovery(self, notify: Callable[[Recovery], None]) -> None:
        """Call `notify` whenever the search recovers from a loss that is not finite."""

    def record_validation_loss(self) -> float:
        """Measure the validation loss, append it to `fixed_losses` and return it."""

    def state(self) -> bytes:
        """Return the checkpoint from which a resumed search gives bit-identical results."""

    def preview(self) -> bytes:
        """Draw a PNG with the current token and a fixed seed.

        Raises:
            ContentFilteredError: the safety checker of the base model withheld it.
        """

    def concept(self) -> Concept:
        """Return the learned concept."""


class JobGeneration(Protocol):
    """One generation in memory."""

    @property
    def step(self) -> int:
        """Number of completed denoising steps."""

    @property
    def done(self) -> bool:
        """Whether all images are drawn."""

    @property
    def images(self) -> Sequence[EncodedImage]:
        """Images that are drawn so far and not withheld, in the order of their seeds."""

    @property
    def withheld(self) -> Sequence[int]:
        """Seeds of the images so far that the safety checker of the base model withheld."""

    def advance(self) -> None:
        """Run one unit of work: a forward pass of limited size, or the decoding of one image."""

    def partial_image(self) -> bytes | None:
        """Return the estimate of the first image as PNG; at least one step must be complete.

        Return None if the safety checker flags it.
        """


class JobEngine(Protocol):
    """Engine that holds base models. Only the engine thread of the worker calls it, except for `gauges`."""

    def begin(self, job: Job, images: Sequence[bytes], state: bytes | None) -> JobSearch:
        """Start the search of a job, or resume it from a checkpoint."""

    def step(self, base_model: str, searches: Sequence[JobSearch]) -> list[ZoodipError | None]:
        """Run one step of every search on one base model; return an error or None for each."""

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
