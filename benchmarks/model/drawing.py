"""Pictures of prompts, drawn by diffusers' own pipeline from the shipped folder."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

STEPS = 20
GUIDANCE = 2.0
ROWS = 50  # prompts a call


def read_pipeline(folder: Path) -> Any:
    """The pipeline of a folder, in fp32, with DDIM on its trailing steps."""
    pipeline: Any = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


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
