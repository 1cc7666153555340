"""Pictures of a case: drawn in batches of prompts, with fixed seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks.quality import sources
from benchmarks.quality.cli import embedded_model
from benchmarks.quality.sources import SEED_STRIDE, draw
from zoodip_core.config import GenerationSettings
from zoodip_core.diffusion.generation import GeneratedImage, generate, generate_together
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.diffusion.prompts import ConceptVectors


@pytest.mark.slow
def test_a_case_is_drawn_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three prompts are drawn in two batches, in order, and equal the pictures drawn alone."""
    entry = embedded_model().model_copy(update={"generation": {"steps": 2, "guidance_scale": 2.0}})
    bundle = load_bundle(entry, device="cpu")
    batches: list[int] = []

    def noted(
        bundle: Bundle, asked: Sequence[GenerationSettings], concepts: ConceptVectors | None
    ) -> list[list[GeneratedImage]]:
        batches.append(len(asked))
        return generate_together(bundle, asked, concepts)

    monkeypatch.setattr(sources, "generate_together", noted)
    monkeypatch.setattr(sources, "BATCH_PICTURES", 5)
    texts = ["a photo of a cat", "a photo of a dog on teal", "a photo of a whale"]
    drawn = draw(bundle, entry, texts, 2)
    assert batches == [2, 1]
    for index, (text, pictures) in enumerate(zip(texts, drawn, strict=True)):
        settings = GenerationSettings.parse(
            entry.generation | {"prompt": text, "n": 2, "seed": index * SEED_STRIDE}
        )
        for picture, alone in zip(pictures, generate(bundle, settings), strict=True):
            assert np.abs(np.asarray(picture, int) - np.asarray(alone.image, int)).max() <= 1
