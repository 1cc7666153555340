"""CLIP scores: similarity of generated images to reference images (CLIP-I) and to prompts (CLIP-T)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from zoodip_core.base_models.weight_files import weight_files
from zoodip_core.diffusion.latents import to_tensor
from zoodip_core.diffusion.weights import load_quantized
from zoodip_core.errors import InvalidModelError
from zoodip_core.images import fit_square


class Scorer:
    """CLIP model that embeds images and texts as unit vectors."""

    def __init__(self, folder: Path) -> None:
        """Load the model on the CPU, in fp32.

        Args:
            folder: a CLIPModel in the layout of transformers, with its tokenizer and `preprocessor_config.json`.

        Raises:
            InvalidModelError: a file is missing or damaged.
        """
        if not (folder / "config.json").is_file():
            raise InvalidModelError(f"{folder} is not a CLIP model: config.json is missing")
        shape = CLIPConfig.from_pretrained(folder, attn_implementation="sdpa")
        with torch.device("meta"):
            model = CLIPModel._from_config(shape)
        self._model: Any = load_quantized(
            model, weight_files(folder), precision="fp32", device="cpu", dtype=torch.float32
        )
        self._tokenizer = CLIPTokenizer.from_pretrained(folder)
        config = json.loads((folder / "preprocessor_config.json").read_text())
        self._side_px = int(shape.vision_config.image_size)
        self._mean = torch.tensor(config["image_mean"]).view(3, 1, 1)
        self._std = torch.tensor(config["image_std"]).view(3, 1, 1)

    @torch.no_grad()
    def images(self, images: Sequence[Image.Image]) -> Float[Tensor, "images d"]:
        """Return unit embeddings of images. Images are cropped to the center square and resized, as CLIP does."""
        pixels = torch.stack([to_tensor(fit_square(image, self._side_px)) for image in images])
        values = ((pixels + 1) / 2 - self._mean) / self._std
        return normalize(self._model.get_image_features(pixel_values=values).pooler_output, dim=-1)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Float[Tensor, "texts d"]:
        """Return unit embeddings of texts."""
        batch = self._tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt")
        features = self._model.get_text_features(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask
        )
        return normalize(features.pooler_output, dim=-1)

    def clip_i(self, references: Sequence[Image.Image], drawn: Sequence[Image.Image]) -> float:
        """Return CLIP-I: the mean cosine similarity over all pairs of a reference and a drawn image, −1 to 1.

        Source: arXiv:2503.14868v1, evaluation protocol
        """
        return float((self.images(references) @ self.images(drawn).T).mean())

    def clip_t(self, prompts: Sequence[str], drawn: Sequence[Image.Image]) -> float:
        """Return CLIP-T: the mean cosine similarity of each drawn image and its prompt, −1 to 1.

        Args:
            prompts: one for each image, without the placeholder token.
            drawn: the generated images.
        """
        return float((self.texts(prompts) * self.images(drawn)).sum(dim=-1).mean())
