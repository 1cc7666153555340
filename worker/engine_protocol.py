"""What the worker asks of an engine, so that a stub can stand for the models where only the service is tested."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from zoodip_core.artifact import Concept
from zoodip_core.errors import ZoodipError
from zoodip_core.service.concepts import ConceptRecord
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.settings import ServiceSettings


@dataclass(frozen=True, slots=True)
class Picture:
    """A generated image as a PNG file, and the seed that draws it again."""

    png: bytes
    seed: int


class JobSearch(Protocol):
    """One personalization in memory."""

    @property
    def step(self) -> int:
        """Completed steps."""

    @property
    def done(self) -> bool:
        """Whether there is nothing more to step."""

    @property
    def rows_per_step(self) -> int:
        """U-Net evaluations of one step."""

    @property
    def fixed_losses(self) -> Sequence[float]:
        """Loss on the fixed set before the search, then at each measurement."""

    def record_validation_loss(self) -> float:
        """Measure the loss on the fixed set and remember it."""

    def state(self) -> bytes:
        """All that a resumed run needs for the same bits."""

    def preview(self) -> bytes:
        """What the token draws so far, as a PNG; the same seed every time."""

    def concept(self) -> Concept:
        """What was learned."""


class JobEngine(Protocol):
    """Holds base models; only the worker's engine thread calls it."""

    def begin(self, job: Job, images: Sequence[bytes], state: bytes | None) -> JobSearch:
        """The job's search, from its start or from a state."""

    def step(self, base_model: str, searches: Sequence[JobSearch]) -> list[ZoodipError | None]:
        """One iteration of every search of one base model; for each its error, or None."""

    def generate(
        self, job: Job, concepts: Sequence[tuple[ConceptRecord, Concept]], before_step: Callable[[], None]
    ) -> list[Picture]:
        """The images that the job asks for; `before_step` is called now and then, and what it raises ends it."""

    def gauges(self) -> dict[str, float]:
        """Figures of the moment, such as memory."""


def load_engine(settings: ServiceSettings) -> JobEngine:
    """The engine named in the settings as `module:factory`."""
    module, _, name = settings.engine.partition(":")
    factory = cast("Callable[[Any], JobEngine]", getattr(importlib.import_module(module), name))
    return factory(settings)
