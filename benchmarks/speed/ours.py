"""This project's engine: searches together in one forward pass, alone or next to generations."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from benchmarks.engine.workload import GenerationQueue, begin_searches
from zoodip_core.diffusion.denoising import Rows
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.engine import Engine

GENERATION_STEPS = 20
SHARE = 0.5  # of their speed that searches keep; the default of the service


class EngineSearches:
    """Searches that step together, next to a queue of generations if requested."""

    def __init__(self, bundle: Bundle, searches: int, *, generations: bool = False) -> None:
        self.searches = searches
        self.weights = f"ours {bundle.precision.upper()}"
        self._engine, self._denoiser = Engine(bundle), bundle.denoiser
        self._searches = begin_searches(bundle, searches)
        self._queue = GenerationQueue(bundle, GENERATION_STEPS, SHARE) if generations else None

    def watch(self, on_pass: Callable[[int], None]) -> None:
        """Call a function with the number of rows of each pass. A hook of the U-Net would not see CUDA graphs."""
        predict = self._denoiser.predict

        def watched(rows: Rows) -> Tensor:
            on_pass(len(rows))
            return predict(rows)

        self._denoiser.predict = watched  # type: ignore[method-assign]

    def step(self) -> None:
        """Run one iteration: a step of every search, and the share of the generations."""
        if self._queue is not None:
            self._queue.step(self._engine, self._searches)
            return
        self._engine.advance(self._searches)
