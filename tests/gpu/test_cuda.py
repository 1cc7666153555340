"""Engine on a CUDA device with INT8, NF4 and FP16 weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from zoodip_core.base_models.catalog import Catalog, resolve_settings
from zoodip_core.config import GenerationSettings
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
