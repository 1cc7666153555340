"""Engine on a CUDA device with INT8, NF4 and FP16 weights."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

from zoodip_core.base_models.catalog import Catalog
from zoodip_core.base_models.presets import resolve_settings
from zoodip_core.config import GenerationSettings
from zoodip_core.diffusion.denoising import Rows
from zoodip_core.diffusion.device import peak_memory_mb
from zoodip_core.diffusion.generation import generate
from zoodip_core.diffusion.loading import load_bundle
from zoodip_core.engine import Engine
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.subject import Subject

DEMO = Path(__file__).parents[2] / "zoodip_core" / "assets" / "demo"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("precision", ["int8", "nf4", "fp16"])
def test_embedded_model_learns_on_cuda(precision: str) -> None:
    """100 steps lower the validation loss, and the learned token draws an image."""
    entry = Catalog.load().get("emoji").model_copy(update={"precision": precision})
    bundle = load_bundle(entry, device="cuda")
    images = [Image.open(path) for path in sorted(DEMO.glob("*.png"))]
    settings = resolve_settings(entry, bundle.family, "default", {"steps": 100})
    learned = Personalization.begin(bundle, Subject("<x>", "turtle"), images, settings)
    engine = Engine(bundle)
    while not learned.done:
        assert engine.step([learned]) == [None]
    assert learned.measure_validation_loss() < learned.fixed_loss_start
    (drawn,) = generate(bundle, GenerationSettings(prompt="a photo of a <x>"), learned.concept_vectors)
    assert drawn.image.size == (64, 64)
    assert peak_memory_mb(bundle.device) > 0


@pytest.mark.parametrize("precision", ["int8", "nf4", "fp16"])
def test_compiled_networks_run_as_cuda_graphs(precision: str) -> None:
    """The graphs give the eager results up to rounding, for other inputs, too, and their memory is counted."""
    entry = Catalog.load().get("emoji").model_copy(update={"precision": precision})
    bundle = load_bundle(entry, device="cuda", compiled=True)
    denoiser, compiled = bundle.denoiser, bundle.denoiser.compiled
    assert compiled is not None
    batches = [_random_rows(bundle.latent_channels, count, seed) for seed, count in enumerate((5, 5, 6))]
    denoiser.predict(batches[0])
    compiled.wait()
    assert compiled.buckets == [6]
    graphed = [denoiser.predict(rows) for rows in batches]  # the first one captures the graph
    assert compiled.compiled_rows == 16
    assert compiled.graph_bytes > 0
    denoiser.compiled = None
    for rows, prediction in zip(batches, graphed, strict=True):
        torch.testing.assert_close(prediction, denoiser.predict(rows), rtol=0.05, atol=0.05)
    network = bundle.prompts.encoders[0].compiled
    assert network is not None
    prompt = bundle.prompts.tokenize("a photo of a dog", {})
    embedded = [torch.stack([one] * 5) for one in bundle.prompts.embed(prompt, {})]
    eager = bundle.prompts.encode(embedded, [prompt] * 5)
    network.wait()
    for _ in range(2):  # the first one captures the graph
        states = bundle.prompts.encode(embedded, [prompt] * 5)
        torch.testing.assert_close(states.states, eager.states, rtol=0.05, atol=0.05)
    assert network.compiled_rows == 10
    assert bundle.graph_bytes > compiled.graph_bytes


def _random_rows(channels: int, count: int, seed: int) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    noisy = torch.randn(count, channels, 8, 8, generator=generator)
    states = torch.randn(count, 16, 192, generator=generator)
    return Rows(noisy.cuda(), torch.full((count,), 500).cuda(), states.cuda())


def test_an_iteration_waits_for_the_device_once() -> None:
    """A step of a search synchronizes only when it reads the predictions."""
    bundle = load_bundle(Catalog.load().get("emoji"), device="cuda")
    images = [Image.open(path) for path in sorted(DEMO.glob("*.png"))]
    settings = resolve_settings(Catalog.load().get("emoji"), bundle.family, "default", {"steps": 10})
    search = Personalization.begin(bundle, Subject("<x>", "turtle"), images, settings)
    engine = Engine(bundle)
    engine.step([search])  # first use of the kernels
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            engine.step([search])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len([one for one in caught if "synchronizing" in str(one.message)]) == 1
