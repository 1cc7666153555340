"""A concept draws the same picture in diffusers, loaded by the code of docs/how-to/use-a-concept-in-diffusers.md."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
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
_GUIDE = Path(__file__).parents[3] / "docs/how-to/use-a-concept-in-diffusers.md"
_BLOCKS = re.findall(r"^```py\n(.*?)^```$", _GUIDE.read_text(), re.MULTILINE | re.DOTALL)  # SD1 and SD2; SDXL


def _pipeline(folder: Path, family: str) -> Any:
    kind = "StableDiffusionXLPipeline" if family == "sdxl" else "StableDiffusionPipeline"
    pipeline = getattr(diffusers, kind).from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _run_guide(pipeline: Any, family: str, *, set_end: bool) -> Any:
    """Run the code of the guide, with the settings of this test, and return its picture.

    `set_end` says whether to run the line that sets the end token, which only SDXL needs.
    """
    code = _BLOCKS[family == "sdxl"].replace(f'pipe("{PROMPT}")', "draw()")
    assert "draw()" in code
    if not set_end:
        code = re.sub("^.*eos_token_id.*$", "", code, flags=re.MULTILINE)

    def draw() -> Any:
        generator = torch.Generator().manual_seed(SEED)
        return pipeline(PROMPT, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generator)

    names = {"pipe": pipeline, "draw": draw}
    exec(code, names)  # noqa: S102 (our own page)
    return names["image"]


def _largest_difference(
    bundle: Bundle, folder: Path, family: str, vectors: int, file: Path, *, set_end: bool = True
) -> int:
    """Return the largest difference of a pixel, in levels of 0 to 255, between our picture and diffusers'."""
    learned = concept("sdxl" if family == "sdxl" else "sd1", vectors)
    save_concept(learned, file)
    parts = [torch.from_numpy(part) for part in learned.embeddings.values()]
    settings = GenerationSettings(prompt=PROMPT, steps=STEPS, seed=SEED, guidance_scale=GUIDANCE)
    ours = generate(bundle, settings, {"<my-dog>": parts})[0].image
    with contextlib.chdir(file.parent):
        theirs = _run_guide(_pipeline(folder, family), family, set_end=set_end)
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
