"""`python -m benchmarks.quantization`: one table of all quantization methods for the frozen model.

Rows of libraries that are not installed say so; to install them: `pip install torchao==0.18.0 optimum-quanto==0.2.7`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import diffusers
import torch
from torch import nn

from benchmarks.quantization.contenders import CONTENDERS, Contender, dense_tensors, dense_weight, size_bytes
from benchmarks.quantization.measures import Models, Probe, slope_error, speeds, weight_error
from benchmarks.quantization.memory import resident_bytes
from tests.tooling.families import sd15
from tests.tooling.models import build_sd15, meta_model
from zoodip_core.base_models.catalog import Catalog
from zoodip_core.diffusion.loading import load_bundle
from zoodip_core.diffusion.weights import load_quantized

HEAD = (
    "contender",
    "weight error",
    "validation loss",
    "shift",
    "slope error",
    "it/s",
    "MB",
    "kernel",
    "kernel it/s",
)
LOAD_HEAD = ("SD1.5's U-Net", "held, GB", "peak while loading, GB")
OURS = {"ours INT8": "int8", "ours NF4": "nf4"}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="timing rounds")
    parser.add_argument("--rows", type=int, default=9, help="rows of the timed step (n + 1)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--load", action="store_true", help="also load a full-size SD1.5 U-Net (4 GB of disk)"
    )
    parser.add_argument("--load-one", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.load_one:
        name, folder = options.load_one
        print(json.dumps(load_one(next(c for c in CONTENDERS if c.name == name), Path(folder))))
        return
    print_table(HEAD, compare(options.rounds, options.rows))
    if options.load:
        print_table(LOAD_HEAD, compare_loading(options.threads))


def compare(rounds: int, rows: int) -> list[list[str]]:
    """Return one row of figures for each contender, on the embedded model and one kernel of SD1.5's size."""
    entry = Catalog.load().get("emoji").model_copy(update={"precision": "fp32"})
    bundle = load_bundle(entry, device="cpu")
    probe = Probe(bundle, fixed_rows=48, slopes=64, rows=rows)
    exact = Models(bundle.denoiser.unet, bundle.prompts.encoders[0].model, torch.float32)
    kernel = nn.Conv2d(640, 640, 3, padding=1).requires_grad_(False)
    nn.init.normal_(kernel.weight, std=0.02)
    picture = torch.randn(1, 640, 32, 32)
    present = [contender for contender in CONTENDERS if contender.installed]
    models = [Models(c.applied(exact.unet), c.applied(exact.text), c.dtype) for c in present]
    kernels = [c.applied(nn.Sequential(kernel)) for c in present]
    steps = speeds([partial(probe.predict, model, probe.step_request) for model in models], rounds=rounds)
    pictures = [picture.to(contender.dtype) for contender in present]
    convolutions = speeds(
        [partial(layer, given) for layer, given in zip(kernels, pictures, strict=True)], rounds=rounds
    )
    base = probe.fixed_loss(exact)
    table = {}
    for contender, model, layer, step, convolution in zip(
        present, models, kernels, steps, convolutions, strict=True
    ):
        loss = probe.fixed_loss(model)
        dense = dense_weight(next(layer.children()))
        assert dense is not None
        error = float((dense.float() - kernel.weight).norm() / kernel.weight.norm())
        table[contender.name] = [
            f"{weight_error(model, exact):.4f}",
            f"{loss:.5f}",
            f"{loss - base:+.5f}",
            f"{slope_error(probe, model, exact):.2g}",
            f"×{step:.2f}",
            f"{(size_bytes(model.unet) + size_bytes(model.text)) / 1e6:.1f}",
            f"{error:.4f}",
            f"×{convolution:.2f}",
        ]
    missing = ["not installed"] + ["–"] * (len(HEAD) - 2)
    return [[contender.name, *table.get(contender.name, missing)] for contender in CONTENDERS]


def compare_loading(threads: int) -> list[list[str]]:
    """Return held and peak memory of a full-size fp16 U-Net, each contender in a separate process."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        build_sd15(Path(folder), parts=("unet",))
        for contender in CONTENDERS:
            if contender.dtype is torch.bfloat16:
                continue
            if not contender.installed:
                rows.append([contender.name, "not installed", "–"])
                continue
            command = [sys.executable, "-m", "benchmarks.quantization", "--threads", str(threads)]
            command += ["--load-one", contender.name, folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            figures = json.loads(done.stdout.splitlines()[-1])
            rows.append([contender.name, f"{figures['held'] / 1e9:.2f}", f"{figures['peak'] / 1e9:.2f}"])
    return rows


def load_one(contender: Contender, folder: Path) -> dict[str, int]:
    """Return held bytes and the peak growth of resident memory for one fp16 U-Net (fp32 for "fp32")."""
    dtype = torch.float32 if contender.name == "fp32" else torch.float16
    contender.applied(nn.Sequential(nn.Linear(64, 64)))  # the cost of first use does not belong to the model
    before = resident_bytes()
    if contender.name in OURS:
        model = load_quantized(
            meta_model("UNet2DConditionModel", sd15().unet),
            [folder / "unet" / "diffusion_pytorch_model.safetensors"],
            precision=OURS[contender.name],  # type: ignore[arg-type]
            device="cpu",
            dtype=dtype,
        )
    else:
        loaded = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet", dtype=dtype)
        model = contender.apply(loaded)
    for tensor in dense_tensors(model):
        tensor.amax()  # diffusers maps the file, and only pages that are read count
    return {"held": size_bytes(model), "peak": resident_bytes(peak=True) - before}


def print_table(head: tuple[str, ...], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    lines = [list(head), ["---"] * len(head), *rows]
    print("\n".join(f"| {' | '.join(line)} |" for line in lines), end="\n\n")


if __name__ == "__main__":
    main()
