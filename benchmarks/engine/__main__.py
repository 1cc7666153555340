"""`python -m benchmarks.engine`: speed, memory and quantized share of the embedded model and of SD1.5's shapes.

A second table has the memory of a whole job: loading, encoding, a step, a preview and a generation. On CUDA it shows
the bytes that the allocator has allocated. Elsewhere it counts the bytes of live tensors, with 16-bit activations.
A third table computes the same for SD1.5 and SDXL from the shapes of their tensors, without running them.

Every measured row runs in a separate process, so that it has separate memory peaks. SD1.5 has random weights, built
in a temporary folder (2 GB); they cost as much as trained ones.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.engine.job import JobFigures
from benchmarks.engine.process import measure_apart, measure_job_apart
from benchmarks.engine.shapes import compute_job
from benchmarks.quantization.__main__ import print_table
from tests.tooling.families import sd15, sdxl
from tests.tooling.models import build_sd15
from zoodip_core.base_models.catalog import BaseModelEntry, Catalog
from zoodip_core.config import Precision
from zoodip_core.diffusion.quantize import Bits

HEAD = (
    "model",
    "precision",
    "n",
    "it/s",
    "rows/s",
    "held, MB",
    "load peak, MB",
    "step peak, MB",
    "quantized",
)
JOB_HEAD = ("model", "precision", "n", *("load", "begin", "step", "preview", "generation", "peak, MB"))
QUANTIZED: tuple[Bits, ...] = ("int8", "nf4")
PRECISIONS: tuple[Precision, ...] = (*QUANTIZED, "fp32")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=30, help="timed steps of the embedded model")
    parser.add_argument("--repeats", type=int, default=3, help="processes of the embedded model, interleaved")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--small", action="store_true", help="skip SD1.5's shapes (minutes on a CPU)")
    parser.add_argument(
        "--dequantized-mb", type=int, default=0, help="budget of the first table for dequantized weights"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    emoji = Catalog.load().get("emoji")
    rows = _rows(emoji, options, n=2, steps=options.steps) + _rows(emoji, options, n=8, steps=options.steps)
    jobs = _job_rows(emoji, options)
    if not options.small:
        with tempfile.TemporaryDirectory() as folder:
            build_sd15(Path(folder))
            large = BaseModelEntry.model_validate({"name": "sd15-shapes", "path": folder})
            rows += _rows(large, options, n=1, steps=options.steps if options.device == "cuda" else 1)
            if options.device == "cuda":
                rows += _rows(large, options, n=4, steps=options.steps)
            jobs += _job_rows(large, options)
    budget = options.dequantized_mb
    kept = (
        f"kept dequantized in models up to {budget} MB in fp32"
        if budget
        else "dequantized in each forward pass"
    )
    print(f"Weights are {kept}.\n")
    print_table(HEAD, rows)
    print(f"\nMemory of a whole job, {_counted(options.device)}:\n")
    print_table(JOB_HEAD, jobs)
    if not options.small:
        print("\nMemory of a whole job, computed from shapes, not measured:\n")
        print_table(JOB_HEAD, _computed_rows())


def _counted(device: str) -> str:
    return "allocated on CUDA" if device.startswith("cuda") else "in live tensors (bf16 activations)"


def _computed_rows() -> list[list[str]]:
    families = {"sd15": sd15(), "sdxl": sdxl()}
    return [
        _job_row(name, precision, compute_job(family, precision=precision, n=2))
        for name, family in families.items()
        for precision in QUANTIZED
    ]


def _job_rows(entry: BaseModelEntry, options: argparse.Namespace) -> list[list[str]]:
    """Return the memory of a whole job with two directions, one row for each precision."""
    rows = []
    for precision in PRECISIONS:
        chosen = entry.model_copy(update={"precision": precision})
        found = measure_job_apart(chosen, n=2, device=options.device, threads=options.threads)
        rows.append(_job_row(entry.name, precision, found))
    return rows


def _job_row(model: str, precision: str, found: JobFigures) -> list[str]:
    parts = (found.load, found.begin, found.step, found.preview, found.generation, found.peak)
    return [model, precision, "2", *(f"{size / 1e6:.0f}" for size in parts)]


def _rows(entry: BaseModelEntry, options: argparse.Namespace, *, n: int, steps: int) -> list[list[str]]:
    """Return the rows of one model. Precisions are interleaved; the fastest run of each counts."""
    repeats = 1 if steps == 1 else options.repeats
    size = {"n": n, "steps": steps, "device": options.device, "threads": options.threads}
    size["dequantized_mb"] = options.dequantized_mb
    entries = [entry.model_copy(update={"precision": precision}) for precision in PRECISIONS]
    runs = [[measure_apart(one, **size) for one in entries] for _ in range(repeats)]
    found = [max(column, key=lambda figures: figures.it_per_s) for column in zip(*runs, strict=True)]
    return [
        [
            entry.name,
            precision,
            str(n),
            f"{figures.it_per_s:.3g}",
            f"{figures.it_per_s * (n + 1):.3g}",
            f"{figures.held_bytes / 1e6:.0f}",
            f"{figures.load_peak_bytes / 1e6:.0f}",
            f"{figures.step_peak_bytes / 1e6:.0f}",
            f"{figures.quantized_share:.1%}",
        ]
        for precision, figures in zip(PRECISIONS, found, strict=True)
    ]


if __name__ == "__main__":
    main()
