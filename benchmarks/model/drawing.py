"""Pictures of prompts, drawn by diffusers' own pipeline from the shipped folder."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from transformers import CLIPTokenizer

from models.emoji.errors import CheckpointError, in_one_line
from models.emoji.train.sampling import GUIDANCE, STEPS

ROWS = 50  # prompts a call


def read_pipeline(folder: Path) -> Any:
    """The pipeline of a folder, in fp32, with DDIM on its trailing steps.

    Raises:
        CheckpointError: there is no whole model in the folder.
    """
    if not (folder / "model_index.json").is_file():
        raise CheckpointError(f"--model {folder}: there is no model folder (it has no model_index.json)")
    try:
        pipeline: Any = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    except Exception as broken:
        raise CheckpointError(f"--model {folder} holds no whole model: {in_one_line(broken)}") from broken
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def read_tokenizer(folder: Path) -> Any:
    """The CLIP tokenizer of a folder.

    Raises:
        CheckpointError: it is missing or broken.
    """
    try:
        return CLIPTokenizer.from_pretrained(folder)
    except Exception as broken:
        raise CheckpointError(f"{folder} holds no whole tokenizer: {in_one_line(broken)}") from broken


def draw(pipeline: Any, prompts: list[str], seed: int) -> torch.Tensor:
    """One picture a prompt, [n, 3, 64, 64] in [-1, 1]; picture k is drawn from seed + k."""
    drawn = []
    for first in range(0, len(prompts), ROWS):
        texts = prompts[first : first + ROWS]
        generators = [torch.Generator().manual_seed(seed + first + index) for index in range(len(texts))]
        found = pipeline(
            texts, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generators, output_type="pt"
        )
        drawn.append(found.images.float() * 2 - 1)
    return torch.cat(drawn)
