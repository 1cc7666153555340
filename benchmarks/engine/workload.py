"""Jobs of the engine for measurements: searches on noise images, and a queue of generations that never ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from benchmarks.engine.measure import SUBJECT
from zoodip_core.config import GenerationSettings, PersonalizationSettings
from zoodip_core.diffusion.generation import ImageBatch
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.engine import BatchedJob, Engine
from zoodip_core.fair_shares import ACCELERATOR_OVERHEAD_WORK, FairShares
from zoodip_core.personalization.personalize import Personalization

QUEUE = 16  # generations that are drawn at once, as in a worker


def begin_generation(bundle: Bundle, number: int, steps: int) -> ImageBatch:
    """Return the generation of one client, with its own concept, prompt and seed."""
    token, generator = f"<c{number}>", torch.Generator().manual_seed(number)
    vectors = [0.02 * torch.randn(1, width, generator=generator) for width in bundle.prompts.widths]
    prompt = f"a photo of a {token} {('in the snow', 'on the beach', 'on grass')[number % 3]}"
    settings = GenerationSettings.parse({"prompt": prompt, "seed": number, "steps": steps})
    return ImageBatch(bundle, [settings], {token: vectors})


def begin_searches(bundle: Bundle, count: int) -> list[Personalization]:
    """Return searches with two directions that do not end, with separate seeds, on one encoded noise image."""
    noise = np.random.default_rng(0).integers(0, 256, (bundle.side_px, bundle.side_px, 3), np.uint8)
    settings = PersonalizationSettings.parse({"n": 2, "steps": 100_000, "fixed_rows": 1})
    first = Personalization.begin(bundle, SUBJECT, [Image.fromarray(noise)], settings)
    seeds = (settings.model_copy(update={"seed": number}) for number in range(1, count))
    return [first, *(Personalization(bundle, first.subject, first.references, one) for one in seeds)]


class GenerationQueue:
    """Generations that are replaced as soon as they are drawn."""

    def __init__(self, bundle: Bundle, steps: int, share: float) -> None:
        self.finished = 0
        self._bundle, self._steps = bundle, steps
        overhead = 0 if bundle.device.type == "cpu" else ACCELERATOR_OVERHEAD_WORK
        self._shares = FairShares(share, overhead_work=overhead)
        self._running: list[ImageBatch] = []

    def step(self, engine: Engine, searches: Sequence[Personalization]) -> None:
        """Run one iteration as a worker does."""
        while len(self._running) < QUEUE:
            number = self.finished + len(self._running)
            self._running.append(begin_generation(self._bundle, number, self._steps))
        rows = sum(search.search.forwards_per_step for search in searches)
        work = rows * self._bundle.cells * self._bundle.denoiser.parameters
        jobs: list[BatchedJob] = [*searches]
        for batch, units in self._shares.allot(work, self._running):
            batch.most_rows = units
            jobs.append(batch)
        engine.advance(jobs)
        self.finished += sum(batch.done for batch in self._running)
        self._running = [batch for batch in self._running if not batch.done]
