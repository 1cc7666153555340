"""`python -m benchmarks.engine.sharing`: what jobs gain and lose when they share forward passes.

The first table compares the pictures per second of several clients that draw different concepts: one after another,
and together. The second one compares the speed of searches alone with their speed next to a queue of generations that
never ends. Both sides of a ratio take turns in one process. Each cell is the median and the range over the repeats.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from benchmarks.engine.measure import SUBJECT
from benchmarks.engine.waiting import at_least
from benchmarks.quantization.__main__ import print_table
from zoodip_core.base_models.catalog import Catalog
from zoodip_core.config import GenerationSettings, PersonalizationSettings
from zoodip_core.diffusion.generation import ImageBatch
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.diffusion.state_cache import StateCache
from zoodip_core.engine import BatchedJob, Engine
from zoodip_core.fair_shares import FairShares
from zoodip_core.personalization.personalize import Personalization

QUEUE = 16  # generations that are drawn at once, as in a worker


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine.sharing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, one_or_more = parser.add_argument, at_least(1)
    add("--clients", type=one_or_more, nargs="+", default=[1, 8], help="numbers of clients")
    add("--searches", type=one_or_more, nargs="+", default=[1, 8], help="numbers of searches")
    add("--steps", type=one_or_more, default=20, help="steps of a picture, and timed iterations of a search")
    add("--repeats", type=one_or_more, default=5)
    add("--share", type=float, default=0.5, help="share of their speed that searches keep")
    add("--threads", type=one_or_more, default=torch.get_num_threads())
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # also for small batches
    torch.set_num_threads(options.threads)
    bundle = load_bundle(Catalog.load().get("emoji"), device=options.device)
    _draw(bundle, [[0]], steps=2)  # warm-up
    print_table(
        ("clients", "one after another, pictures/s", "together, pictures/s", "ratio"),
        [_drawing_row(bundle, count, options) for count in options.clients],
    )
    print()
    print_table(
        ("searches", "alone, it/s", "with a full queue, it/s", "share", "pictures/s meanwhile"),
        [_search_row(bundle, count, options) for count in options.searches],
    )


def _drawing_row(bundle: Bundle, clients: int, options: argparse.Namespace) -> list[str]:
    apart, together = list[float](), list[float]()
    for _ in range(options.repeats):
        apart.append(clients / _draw(bundle, [[number] for number in range(clients)], options.steps))
        together.append(clients / _draw(bundle, [[*range(clients)]], options.steps))
    ratios = [many / one for many, one in zip(together, apart, strict=True)]
    return [str(clients), *(_cell(values) for values in (apart, together, ratios))]


def _draw(bundle: Bundle, groups: Sequence[Sequence[int]], steps: int) -> float:
    """Draw the pictures of each group together, one group after another; return the seconds of all."""
    bundle.text_states = StateCache()
    engine, started = Engine(bundle), time.perf_counter()
    for group in groups:
        batches = [_batch(bundle, number, steps) for number in group]
        while unfinished := [batch for batch in batches if not batch.done]:
            engine.step(unfinished)
    return time.perf_counter() - started


def _batch(bundle: Bundle, number: int, steps: int) -> ImageBatch:
    """Return the generation of one client, with its own concept, prompt and seed."""
    token, generator = f"<c{number}>", torch.Generator().manual_seed(number)
    vectors = [0.02 * torch.randn(1, width, generator=generator) for width in bundle.prompts.widths]
    prompt = f"a photo of a {token} {('in the snow', 'on the beach', 'on grass')[number % 3]}"
    settings = GenerationSettings.parse({"prompt": prompt, "seed": number, "steps": steps})
    return ImageBatch(bundle, [settings], {token: vectors})


def _search_row(bundle: Bundle, count: int, options: argparse.Namespace) -> list[str]:
    searches = [_search(bundle, number) for number in range(count)]
    queue = _Queue(bundle, options.steps, options.share)
    alone, shared, drawn = list[float](), list[float](), list[float]()
    engine = Engine(bundle)
    engine.step(searches)  # warm-up
    queue.step(engine, searches)
    for _ in range(options.repeats):
        started = time.perf_counter()
        for _ in range(options.steps):
            engine.step(searches)
        alone.append(options.steps / (time.perf_counter() - started))
        before, started = queue.finished, time.perf_counter()
        for _ in range(options.steps):
            queue.step(engine, searches)
        seconds = time.perf_counter() - started
        shared.append(options.steps / seconds)
        drawn.append((queue.finished - before) / seconds)
    shares = [full / free for full, free in zip(shared, alone, strict=True)]
    return [str(count), *(_cell(values) for values in (alone, shared, shares, drawn))]


def _search(bundle: Bundle, number: int) -> Personalization:
    noise = np.random.default_rng(number).integers(0, 256, (bundle.side_px, bundle.side_px, 3), np.uint8)
    settings = PersonalizationSettings.parse({"n": 2, "steps": 100_000, "fixed_rows": 1, "seed": number})
    return Personalization.begin(bundle, SUBJECT, [Image.fromarray(noise)], settings)


class _Queue:
    """Generations that are replaced as soon as they are drawn."""

    def __init__(self, bundle: Bundle, steps: int, share: float) -> None:
        self.finished = 0
        self._bundle, self._steps = bundle, steps
        self._shares = FairShares(share)
        self._running: list[ImageBatch] = []

    def step(self, engine: Engine, searches: Sequence[Personalization]) -> None:
        """Run one iteration as a worker does."""
        while len(self._running) < QUEUE:
            number = self.finished + len(self._running)
            self._running.append(_batch(self._bundle, number, self._steps))
        cells = (self._bundle.side_px // self._bundle.scale_factor) ** 2
        rows = sum(search.search.forwards_per_step for search in searches)
        jobs: list[BatchedJob] = [*searches]
        for batch, units in self._shares.allot(rows * cells, self._running):
            batch.most_rows = units
            jobs.append(batch)
        engine.step(jobs)
        self.finished += sum(batch.done for batch in self._running)
        self._running = [batch for batch in self._running if not batch.done]


def _cell(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


if __name__ == "__main__":
    main()
