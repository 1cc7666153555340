"""`python -m benchmarks.engine.sharing`: what jobs gain and lose when they share forward passes.

The first table compares the pictures per second of several clients that draw different concepts: one after another,
and together. The second one compares the speed of searches alone with their speed next to a queue of generations that
never ends. Both sides of a ratio take turns in one process. Each cell is the median and the range over the repeats.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence

import torch

from benchmarks.engine.spread import spread
from benchmarks.engine.waiting import at_least
from benchmarks.engine.workload import GenerationQueue, begin_generation, begin_searches
from benchmarks.quantization.__main__ import print_table
from zoodip_core.base_models.catalog import Catalog
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.diffusion.state_cache import StateCache
from zoodip_core.engine import Engine


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
    add("--threads", type=one_or_more, help="sets OMP_NUM_THREADS; default: the engine chooses")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    if options.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
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
    return [str(clients), *(spread(values, ".2f") for values in (apart, together, ratios))]


def _draw(bundle: Bundle, groups: Sequence[Sequence[int]], steps: int) -> float:
    """Draw the pictures of each group together, one group after another; return the seconds of all."""
    bundle.text_states = StateCache()
    engine, started = Engine(bundle), time.perf_counter()
    for group in groups:
        batches = [begin_generation(bundle, number, steps) for number in group]
        while unfinished := [batch for batch in batches if not batch.done]:
            engine.advance(unfinished)
    return time.perf_counter() - started


def _search_row(bundle: Bundle, count: int, options: argparse.Namespace) -> list[str]:
    searches = begin_searches(bundle, count)
    queue = GenerationQueue(bundle, options.steps, options.share)
    alone, shared, drawn = list[float](), list[float](), list[float]()
    engine = Engine(bundle)
    engine.advance(searches)  # warm-up
    queue.step(engine, searches)
    for _ in range(options.repeats):
        started = time.perf_counter()
        for _ in range(options.steps):
            engine.advance(searches)
        alone.append(options.steps / (time.perf_counter() - started))
        before, started = queue.finished, time.perf_counter()
        for _ in range(options.steps):
            queue.step(engine, searches)
        seconds = time.perf_counter() - started
        shared.append(options.steps / seconds)
        drawn.append((queue.finished - before) / seconds)
    shares = [full / free for full, free in zip(shared, alone, strict=True)]
    return [str(count), *(spread(values, ".2f") for values in (alone, shared, shares, drawn))]


if __name__ == "__main__":
    main()
