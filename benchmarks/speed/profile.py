"""`python -m benchmarks.speed.profile`: which operators take the time of a step of some entries."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.engine.waiting import at_least
from benchmarks.quantization.__main__ import print_table
from benchmarks.speed.entries import ENTRIES, Workload
from benchmarks.speed.operators import count_kernels, profile_step
from benchmarks.speed.shapes import MODELS, prepare_model


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one table for each entry."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.profile", description=__doc__)
    add, one_or_more = parser.add_argument, at_least(1)
    add("--model", choices=MODELS, default="emoji")
    add("--entries", choices=ENTRIES, nargs="+", default=["a", "b", "c8"])
    add("--steps", type=one_or_more, default=5, help="profiled steps")
    add("--top", type=one_or_more, default=10, help="operators in a table")
    add("--threads", type=one_or_more, default=1)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--out", type=Path, default=Path("speed-output"), help="folder of random weights")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    model = prepare_model(options.model, options.out / "models")
    for name in options.entries:
        entry = ENTRIES[name]
        loaded = entry.load(model, options.device)
        workload = entry.begin(loaded)
        if entry.compile is not None:
            entry.compile(loaded, workload)
        workload.step()  # warm-up
        _print_profile(f"{name}: {entry.about}", workload, options)


def _print_profile(title: str, workload: Workload, options: argparse.Namespace) -> None:
    def steps() -> None:
        for _ in range(options.steps):
            workload.step()

    started = time.perf_counter()
    steps()
    seconds = (time.perf_counter() - started) / options.steps
    found = profile_step(steps, options.device)
    kernels = count_kernels(found, options.device) / options.steps
    print(f"{title}: {seconds * 1e3:.0f} ms and {kernels:.0f} kernels a step\n")
    print_table(("operator", "calls a step", "share of the time"), _lines(found, options))


def _lines(found: Any, options: argparse.Namespace) -> list[list[str]]:
    """Return the operators with the most time in themselves; the last line has the others together."""
    on_cuda = options.device.startswith("cuda")
    operators = [
        (one.key, one.count, one.self_device_time_total if on_cuda else one.self_cpu_time_total)
        for one in found.key_averages()
    ]
    operators.sort(key=lambda one: -one[2])
    total = sum(time_us for _, _, time_us in operators)
    first, rest = operators[: options.top], operators[options.top :]
    rest_line = ("all others", sum(one[1] for one in rest), sum(one[2] for one in rest))
    return [
        [key, f"{count / options.steps:.0f}", f"{time_us / total:.1%}"]
        for key, count, time_us in (*first, rest_line)
    ]


if __name__ == "__main__":
    main()
