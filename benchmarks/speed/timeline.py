"""`python -m benchmarks.speed.timeline`: draw when the networks run in a step of some entries.

Each entry repeats its step, and the step of median duration is drawn. The same time axis shows all entries. Needs
matplotlib. A synchronization before and after each network makes the spans on CUDA those of the device.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from benchmarks.engine.waiting import at_least
from benchmarks.speed.entries import ENTRIES
from benchmarks.speed.plain_models import PlainModels
from benchmarks.speed.shapes import MODELS, prepare_model
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.files import write_atomically

COLORS = {"VAE": "#cc79a7", "text encoder": "#e69f00", "U-Net": "#0072b2"}
STYLE: Any = {
    "svg.hashsalt": "timeline",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
}


@dataclass(frozen=True)
class Span:
    """One pass of a network, in seconds since the start of the step."""

    network: str
    start_s: float
    end_s: float
    rows: int


@dataclass(frozen=True)
class Timeline:
    """The passes of one step, and its duration in seconds."""

    title: str
    spans: Sequence[Span]
    duration_s: float


class Recorder:
    """Records the passes of networks.

    Args:
        networks: name → its modules.
        synchronize: waits until the device has computed everything.
    """

    def __init__(self, networks: Mapping[str, Sequence[nn.Module]], synchronize: Callable[[], None]) -> None:
        self._synchronize = synchronize
        self._spans: list[Span] = []
        self._started = self._entered = 0.0
        for name, modules in networks.items():
            for module in modules:
                module.register_forward_pre_hook(lambda *_: self._enter())
                module.register_forward_hook(lambda _, __, output, name=name: self._leave(name, output))

    def record(self, title: str, step: Callable[[], None]) -> Timeline:
        """Run a step and return its timeline."""
        self._spans = []
        self._started = self._now()
        step()
        return Timeline(title, tuple(self._spans), self._now() - self._started)

    def _now(self) -> float:
        self._synchronize()
        return time.perf_counter()

    def _enter(self) -> None:
        self._entered = self._now()

    def _leave(self, name: str, output: Any) -> None:
        first = output if isinstance(output, torch.Tensor) else output[0]
        self._spans.append(Span(name, self._entered - self._started, self._now() - self._started, len(first)))


def networks_of(models: PlainModels | Bundle) -> dict[str, list[nn.Module]]:
    """Return the networks that a step may run. A search calls the layers of its text encoder one by one."""
    if isinstance(models, PlainModels):
        texts, unet, vae = models.texts, models.unet, [models.vae.encoder]
    else:
        texts, unet, vae = [one.model for one in models.prompts.encoders], models.denoiser.unet, []
    layers = [one for text in texts for one in text.modules() if type(one).__name__ == "CLIPEncoderLayer"]
    return {"VAE": vae, "text encoder": layers, "U-Net": [unet]}


def draw(timelines: Sequence[Timeline]) -> Figure:
    """Return a picture with one lane for each timeline."""
    figure = Figure(figsize=(8.4, 0.9 + 0.95 * len(timelines)), layout="constrained")
    axes = figure.add_subplot()
    for lane, timeline in enumerate(timelines):
        _draw_lane(axes, -lane, timeline)
    axes.set_ylim(-len(timelines) + 0.45, 0.8)
    axes.set_xlim(0, max(one.duration_s for one in timelines) * 1e3)
    axes.set_yticks([])
    axes.set_xlabel("milliseconds since the start of the step")
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(COLORS) + 1, frameon=False)
    return figure


def _draw_lane(axes: Axes, y: float, timeline: Timeline) -> None:
    """Draw the duration of a step in gray, and the passes of its networks on it."""
    is_first = y == 0
    other = "everything else" if is_first else None
    axes.barh(y, timeline.duration_s * 1e3, height=0.42, color="#dddddd", label=other)
    for name, color in COLORS.items():
        spans = [span for span in timeline.spans if span.network == name]
        bars = [(span.start_s * 1e3, (span.end_s - span.start_s) * 1e3) for span in spans]
        axes.broken_barh(bars, (y - 0.21, 0.42), color=color, label=name if is_first else None)
    axes.annotate(timeline.title, (0, y + 0.27), fontsize=10)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the picture and print its titles."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.timeline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, one_or_more = parser.add_argument, at_least(1)
    add("--model", choices=MODELS, default="emoji")
    add("--entries", choices=ENTRIES, nargs="+", default=["a", "b", "c8"])
    add("--steps", type=one_or_more, default=11, help="recorded steps of each entry")
    add("--threads", type=one_or_more, default=1)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--models-folder", type=Path, default=Path("speed-output/models"), help="folder of random weights")
    add("--out", type=Path, required=True, help="picture to write, .svg")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    timelines = [_record(name, options) for name in options.entries]
    print(*(one.title for one in timelines), sep="\n")
    buffer = BytesIO()
    with mpl.rc_context(STYLE):
        draw(timelines).savefig(buffer, format="svg", metadata={"Date": None})
    write_atomically(options.out, buffer.getvalue())


def _record(name: str, options: argparse.Namespace) -> Timeline:
    """Return the step of median duration."""
    entry = ENTRIES[name]
    models = entry.load(prepare_model(options.model, options.models_folder), options.device)
    workload = entry.begin(models)
    workload.step()  # warm-up
    synchronize = torch.cuda.synchronize if options.device.startswith("cuda") else lambda: None
    recorder = Recorder(networks_of(models), synchronize)
    steps = [recorder.record("", workload.step) for _ in range(options.steps)]
    median = sorted(steps, key=lambda one: one.duration_s)[len(steps) // 2]
    passes = [span for span in median.spans if span.network == "U-Net"]
    rows = "1 row" if passes[0].rows == 1 else f"{passes[0].rows} rows"
    times = "1 pass" if len(passes) == 1 else f"{len(passes)} passes"
    title = f"{entry.about}: {median.duration_s * 1e3:.0f} ms, {times} of {rows} through the U-Net"
    return Timeline(title, median.spans, median.duration_s)


if __name__ == "__main__":
    main()
