"""A learned concept draws the same picture in diffusers, loaded as docs/how-to/use-a-concept-elsewhere.md says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import safetensors.torch
import torch

from tests.tooling.concepts import concept
from zoodip_core.artifact import save_concept
from zoodip_core.base_models.families import Family
from zoodip_core.config import GenerationSettings
from zoodip_core.diffusion.generation import generate
from zoodip_core.diffusion.loading import Bundle

pytestmark = pytest.mark.slow

PROMPT = "a photo of a <my-dog> in the snow"
STEPS, SEED, GUIDANCE = 3, 11, 5.0


def _pipeline(folder: Path, family: str) -> Any:
    kind = "StableDiffusionXLPipeline" if family == "sdxl" else "StableDiffusionPipeline"
    pipeline = getattr(diffusers, kind).from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _load(pipeline: Any, file: Path, family: str, *, set_end: bool) -> None:
    """Load a concept file by the steps of the guide; `set_end` decides about the step that only SDXL needs."""
    if family != "sdxl":
        pipeline.load_textual_inversion(str(file))
        return
    tensors = safetensors.torch.load_file(file)
    for key, encoder, tokenizer in (
        ("clip_l", pipeline.text_encoder, pipeline.tokenizer),
        ("clip_g", pipeline.text_encoder_2, pipeline.tokenizer_2),
    ):
        pipeline.load_textual_inversion(
            tensors[key], token="<my-dog>", text_encoder=encoder, tokenizer=tokenizer
        )
    if set_end:
        pipeline.text_encoder_2.text_model.eos_token_id = pipeline.tokenizer_2.eos_token_id


def _largest_difference(
    bundle: Bundle, folder: Path, family: str, vectors: int, file: Path, *, set_end: bool = True
) -> int:
    """Return the largest difference of a pixel, in levels of 0 to 255, between our picture and diffusers'."""
    learned = concept("sdxl" if family == "sdxl" else "sd1", vectors)
    save_concept(learned, file)
    parts = [torch.from_numpy(part) for part in learned.embeddings.values()]
    settings = GenerationSettings(prompt=PROMPT, steps=STEPS, seed=SEED, guidance_scale=GUIDANCE)
    ours = generate(bundle, settings, {"<my-dog>": parts})[0].image
    pipeline = _pipeline(folder, family)
    _load(pipeline, file, family, set_end=set_end)
    theirs = pipeline(
        PROMPT,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=torch.Generator().manual_seed(SEED),
    ).images[0]
    return int(np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max())


@pytest.mark.parametrize("vectors", [1, 2])
def test_a_concept_draws_the_same_picture(
    tmp_path: Path, family: Family, family_folder: dict[str, Path], bundles: dict[str, Bundle], vectors: int
) -> None:
    """Each family, with one and two vectors: no pixel differs by more than one level."""
    file = tmp_path / "my-dog.safetensors"
    assert _largest_difference(bundles[family], family_folder[family], family, vectors, file) <= 1


def test_without_the_end_token_sdxl_draws_another_picture(
    tmp_path: Path, family_folder: dict[str, Path], bundles: dict[str, Bundle]
) -> None:
    """SDXL's published `eos_token_id` of 2 makes transformers pool the state of the learned token."""
    file = tmp_path / "my-dog.safetensors"
    difference = _largest_difference(bundles["sdxl"], family_folder["sdxl"], "sdxl", 1, file, set_end=False)
    assert difference > 1
