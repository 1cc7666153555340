"""CLIP similarity of images to images and to texts: how well a token draws its subject and obeys the prompt."""

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
    """A CLIP pair that embeds images and texts on the unit sphere."""

    def __init__(self, folder: Path) -> None:
        """Load the pair.

        Args:
            folder: a CLIPModel in transformers' layout, with its tokenizer and `preprocessor_config.json`.

        Raises:
            InvalidModelError: the folder lacks a part.
        """
        if not (folder / "config.json").is_file():
            raise InvalidModelError(f"{folder} holds no CLIP model: config.json is missing")
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
        """Unit embeddings of images, cropped to a square and resized as CLIP's own preprocessing does."""
        pixels = torch.stack([to_tensor(fit_square(image, self._side_px)) for image in images])
        values = ((pixels + 1) / 2 - self._mean) / self._std
        return normalize(self._model.get_image_features(pixel_values=values).pooler_output, dim=-1)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Float[Tensor, "texts d"]:
        """Unit embeddings of texts."""
        batch = self._tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt")
        features = self._model.get_text_features(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask
        )
        return normalize(features.pooler_output, dim=-1)

    def clip_i(self, references: Sequence[Image.Image], drawn: Sequence[Image.Image]) -> float:
        """CLIP-I: the mean cosine of all reference × drawn pairs.

        Source: arXiv:2503.14868v1, evaluation protocol
        """
        return float((self.images(references) @ self.images(drawn).T).mean())

    def clip_t(self, prompts: Sequence[str], drawn: Sequence[Image.Image]) -> float:
        """CLIP-T: the mean cosine of each drawn image and its own prompt, without the placeholder's word."""
        return float((self.texts(prompts) * self.images(drawn)).sum(dim=-1).mean())
