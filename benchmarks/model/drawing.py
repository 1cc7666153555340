"""Draw prompts with the diffusers pipeline of a model folder."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from transformers import CLIPTokenizer

from models.emoji.errors import CheckpointError, in_one_line
from models.emoji.train.sampling import GUIDANCE, STEPS

ROWS = 50  # prompts in one call


def read_pipeline(folder: Path) -> Any:
    """Load the pipeline of a folder in fp32, with DDIM on trailing steps.

    Raises:
        CheckpointError: the folder has no complete model.
    """
    if not (folder / "model_index.json").is_file():
        raise CheckpointError(f"--model: got {folder}; expected a model folder with model_index.json")
    try:
        pipeline: Any = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    except Exception as broken:
        raise CheckpointError(
            f"--model: got {folder}; expected a complete model: {in_one_line(broken)}"
        ) from broken
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def read_tokenizer(folder: Path) -> Any:
    """Load the CLIP tokenizer of a folder.

    Raises:
        CheckpointError: it is missing or broken.
    """
    try:
        return CLIPTokenizer.from_pretrained(folder)
    except Exception as broken:
        raise CheckpointError(f"{folder}: the tokenizer cannot be loaded: {in_one_line(broken)}") from broken


def draw(pipeline: Any, prompts: list[str], seed: int) -> torch.Tensor:
    """Draw one picture for each prompt, [n, 3, 64, 64] in [-1, 1]; picture k uses seed + k."""
    drawn = []
    for first in range(0, len(prompts), ROWS):
        texts = prompts[first : first + ROWS]
        generators = [torch.Generator().manual_seed(seed + first + index) for index in range(len(texts))]
        found = pipeline(
            texts, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generators, output_type="pt"
        )
        drawn.append(found.images.float() * 2 - 1)
    return torch.cat(drawn)
