"""`python -m benchmarks.engine.threads`: how much faster all threads compute a forward pass than one.

The passes are those of the embedded U-Net, and of U-Nets of SD1.5's kind with narrower layers and random weights, in
fp32, at 32 × 32 latent cells. Each pass runs in turns on one thread, on all threads, and as one group of rows for
each thread. *Work* is the number that `zoodip_core.diffusion.threads` compares with its limit.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import diffusers
import torch
from torch import Tensor

from benchmarks.engine.spread import spread
from benchmarks.engine.waiting import at_least, busy_processes
from benchmarks.quantization.__main__ import print_table
from tests.tooling.families import sd15
from zoodip_core.base_models.catalog import Catalog
from zoodip_core.diffusion.loading import load_bundle
from zoodip_core.diffusion.row_groups import run_groups

NARROW_SIDE = 32  # latent cells
HEAD = (
    *("U-Net", "rows", "work, 10⁹", "one thread, s", "all threads, s", "groups, s"),
    *("speed of all threads", "speed of groups"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine.threads",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, one_or_more = parser.add_argument, at_least(1)
    add("--widths", type=one_or_more, nargs="+", default=[32, 64, 96, 128], help="channels; SD1.5 has 320")
    add("--embedded-rows", type=one_or_more, nargs="+", default=[3, 16, 64, 120])
    add("--narrow-rows", type=one_or_more, nargs="+", default=[1, 3])
    add("--repeats", type=one_or_more, default=7, help="readings of each way")
    add("--threads", type=one_or_more, default=torch.get_num_threads())
    add("--busy", type=at_least(0), default=0, help="number of busy processes")
    options = parser.parse_args(arguments)
    with busy_processes(options.busy), torch.no_grad():
        unet = load_bundle(Catalog.load().get("emoji").model_copy(update={"precision": "fp32"})).denoiser.unet
        rows = [_row("embedded", unet, count, options) for count in options.embedded_rows]
        for width in options.widths:
            unet = _narrow_unet(width)
            rows += [_row(f"{width} channels", unet, count, options) for count in options.narrow_rows]
    print_table(HEAD, rows)


def _narrow_unet(width: int) -> Any:
    """Return a U-Net with SD1.5's blocks and random weights."""
    channels = [width, 2 * width, 4 * width, 4 * width]
    config = sd15().unet | {"block_out_channels": channels, "sample_size": NARROW_SIDE}
    return diffusers.UNet2DConditionModel.from_config(config).eval()


def _row(name: str, unet: Any, count: int, options: argparse.Namespace) -> list[str]:
    side = int(unet.config.sample_size)
    latents = torch.zeros(count, int(unet.config.in_channels), side, side)
    states = torch.zeros(count, 77, int(unet.config.cross_attention_dim))
    parameters = sum(parameter.numel() for parameter in unet.parameters())
    before = torch.get_num_threads()

    @torch.no_grad()  # of the calling thread
    def evaluate(indices: Tensor) -> None:
        unet(latents[indices], 500, states[indices])

    def on(threads: int) -> None:
        torch.set_num_threads(threads)
        evaluate(torch.arange(count))

    def in_groups() -> None:
        parts = torch.arange(count).tensor_split(min(count, options.threads))
        run_groups([partial(evaluate, part) for part in parts])

    ways: list[Callable[[], None]] = [partial(on, 1), partial(on, options.threads), in_groups]
    for way in ways:
        way()  # warm-up
    readings = [[_seconds(way) for way in ways] for _ in range(options.repeats)]
    torch.set_num_threads(before)
    label = f"{name}, {parameters / 1e6:.1f} M parameters"
    work = count * side**2 * parameters / 1e9
    medians = [statistics.median(times) for times in zip(*readings, strict=True)]
    ratios = [spread([one[0] / one[k] for one in readings], ".2f") for k in (1, 2)]
    return [label, str(count), f"{work:.0f}", *(f"{median:.3f}" for median in medians), *ratios]


def _seconds(way: Callable[[], None]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
