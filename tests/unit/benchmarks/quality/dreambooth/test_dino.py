"""DINOv2 embeddings, on a narrow model with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BitImageProcessorPil, Dinov2Model

from benchmarks.quality.dreambooth.metrics import DinoEncoder
from tests.tooling.encoders import SHORT_PX, SIDE_PX, build_dino


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small DINOv2."""
    place = tmp_path_factory.mktemp("dino")
    build_dino(place)
    return place


def test_dino_matches_transformers(dino: Path) -> None:
    """Without resizing, the embeddings equal the class token after the preprocessing of transformers."""
    random = np.random.default_rng(1)
    images = [
        Image.fromarray(random.integers(0, 256, (SHORT_PX, SHORT_PX, 3), dtype=np.uint8)) for _ in range(3)
    ]
    processor = BitImageProcessorPil.from_pretrained(dino)
    pixels = processor(images, return_tensors="pt").pixel_values
    assert pixels.shape[-1] == SIDE_PX
    with torch.no_grad():
        states = Dinov2Model.from_pretrained(dino).eval()(pixel_values=pixels).last_hidden_state
    expected = torch.nn.functional.normalize(states[:, 0], dim=-1)
    torch.testing.assert_close(DinoEncoder(dino).images(images), expected, atol=1e-5, rtol=0)


def test_batches_give_the_same_embeddings(dino: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batching does not change the embeddings."""
    random = np.random.default_rng(2)
    images = [Image.fromarray(random.integers(0, 256, (40, 50, 3), dtype=np.uint8)) for _ in range(5)]
    whole = DinoEncoder(dino).images(images)
    monkeypatch.setattr("benchmarks.quality.dreambooth.metrics.BATCH", 2)
    torch.testing.assert_close(DinoEncoder(dino).images(images), whole, atol=1e-6, rtol=0)
