"""Measure one configuration of the engine: load it and search a few steps."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks.quantization.memory import resident_bytes
from tests.tooling.models import meta_model
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.latents import Posteriors
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.diffusion.quantize import quantization_report, quantize_model
from zoodip_core.engine import Engine
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.samples import References
from zoodip_core.personalization.subject import Subject

SUBJECT = Subject(token="<it>", initializer="cat")  # noqa: S106


@dataclass(frozen=True)
class Figures:
    """Figures of one configuration.

    Attributes:
        it_per_s: Steps of the search per second, from the median step.
        held_bytes: Weights of U-Net and text encoder.
        load_peak_bytes: Growth of resident memory (CUDA: of the allocator) at its highest while loading.
        step_peak_bytes: The same, loading and stepping together.
        quantized_share: Quantized share of the parameters of U-Net, text encoder and VAE.
    """

    it_per_s: float
    held_bytes: int
    load_peak_bytes: int
    step_peak_bytes: int
    quantized_share: float


def measure(entry: BaseModelEntry, *, device: str, n: int, steps: int, dequantized_mb: int = 0) -> Figures:
    """Load the model and time `steps` steps with n directions, after a warm-up step if there are several.

    The VAE is not loaded: a search caches its latents, and here they are random.
    """
    nn.Linear(64, 64, device=device)(
        torch.ones(1, 64, device=device)
    )  # the cost of first use does not belong to the model
    before = _used_bytes(device, peak=False)
    bundle = load_bundle(entry, device=device, dequantized_mb=dequantized_mb)
    load_peak = _used_bytes(device, peak=True) - before
    warm_up = int(steps > 1)  # the validation loss has run one row already
    search = _search(bundle, n=n, steps=steps + warm_up)
    engine, seconds = Engine(bundle), []
    for _ in range(steps + warm_up):
        started = time.perf_counter()
        engine.advance([search])
        seconds.append(time.perf_counter() - started)
    held = quantization_report(bundle.modules)
    return Figures(
        it_per_s=1 / statistics.median(seconds[warm_up:]),
        held_bytes=held.size_bytes,
        load_peak_bytes=load_peak,
        step_peak_bytes=_used_bytes(device, peak=True) - before,
        quantized_share=quantization_report([*bundle.modules, _unloaded_vae(bundle)]).quantized_share,
    )


def _search(bundle: Bundle, *, n: int, steps: int) -> Personalization:
    """Return a search on random latents of the model's size."""
    side = int(bundle.denoiser.unet.config.sample_size)
    latents = torch.randn(
        1, 2, bundle.latent_channels, side, side, generator=torch.Generator().manual_seed(0)
    )
    prompt = bundle.prompts.tokenize(f"a photo of a {SUBJECT.token}", {SUBJECT.token: 1})
    references = References(Posteriors(latents, torch.zeros_like(latents)), [[prompt]], bundle.schedule)
    settings = PersonalizationSettings.parse({"n": n, "steps": steps, "fixed_rows": 1})
    return Personalization(bundle, SUBJECT, references, settings)


def _unloaded_vae(bundle: Bundle) -> nn.Module:
    """Return the autoencoder as it would be stored, without allocating memory."""
    config = json.loads((Path(bundle.folder) / "vae" / "config.json").read_text())
    vae = meta_model("AutoencoderKL", {key: value for key, value in config.items() if key[0] != "_"})
    precision = bundle.precisions.vae
    return quantize_model(vae, precision=precision) if precision in ("int8", "nf4") else vae


def _used_bytes(device: str, *, peak: bool) -> int:
    if device == "cpu":
        return resident_bytes(peak=peak)
    return torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()
