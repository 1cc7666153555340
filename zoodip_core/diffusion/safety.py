"""The safety checker of a base model: says which images to withhold. It never changes an image."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from torch import nn

from zoodip_core.base_models.safety_checker import safety_checker_files
from zoodip_core.diffusion.device import compute_dtype
from zoodip_core.diffusion.memory import typed_out_of_memory
from zoodip_core.diffusion.weights import load_quantized


class SafetyChecker:
    """CLIP vision model that compares images with a fixed list of embedded concepts.

    Its weights are not quantized, because it compares similarities with thresholds to three decimals.

    Args:
        folder: pipeline folder that ships a safety checker.
        device: device of the model.

    Raises:
        InvalidModelError: a file is missing or damaged.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        # Most workers check nothing, and this import takes half a second.
        from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

        # It announces a black image, which is never used here.
        logging.getLogger(StableDiffusionSafetyChecker.__module__).setLevel(logging.ERROR)
        files = safety_checker_files(folder)
        config = transformers.CLIPConfig.from_pretrained(files.folder)
        with torch.device("meta"):
            model = StableDiffusionSafetyChecker._from_config(config)
        dtype = compute_dtype(device, "fp16")
        self.model: nn.Module = load_quantized(
            model, files.weights, precision="fp16", device=device, dtype=dtype
        )
        self._processor = transformers.CLIPImageProcessorPil.from_pretrained(files.processor)
        self._device, self._dtype = device, dtype

    @torch.no_grad()
    @typed_out_of_memory("Checking an image")
    def flags(self, image: Image.Image) -> bool:
        """Return whether the image must be withheld.

        Raises:
            OutOfMemoryError: the image does not fit.
        """
        pixels = self._processor(image, return_tensors="pt")["pixel_values"].to(self._device, self._dtype)
        _, (is_flagged,) = self.model(clip_input=pixels, images=[np.zeros(1)])  # it blackens what it gets
        return bool(is_flagged)
