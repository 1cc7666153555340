"""DINOv2 as an embedder: what a picture shows, told apart finer than CLIP does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.functional import normalize
from transformers import Dinov2Model

from zoodip_core.base_models.families import read_config
from zoodip_core.diffusion.latents import to_tensor
from zoodip_core.errors import InvalidModelError
from zoodip_core.images import fit_square

BATCH = 25  # pictures at once: a whole case of them would need gigabytes


class Dino:
    """A DINOv2 encoder; the class token stands for the picture."""

    def __init__(self, folder: Path) -> None:
        """Load it.

        Args:
            folder: a Dinov2Model in transformers' layout, with its `preprocessor_config.json`.

        Raises:
            InvalidModelError: the folder lacks a part, or its weights are damaged.
        """
        self._model = _load(folder)
        config = read_config(folder, "preprocessor_config.json")
        self._short_px = int(config["size"]["shortest_edge"])
        self._side_px = int(config["crop_size"]["height"])
        self._mean = torch.tensor(config["image_mean"]).view(3, 1, 1)
        self._std = torch.tensor(config["image_std"]).view(3, 1, 1)

    @torch.no_grad()
    def images(self, images: Sequence[Image.Image]) -> Float[Tensor, "images d"]:
        """Unit embeddings of images: resized by the short side, the centre cropped, as its own preprocessing does."""
        pixels = torch.stack([to_tensor(self._cropped(image)) for image in images])
        values = ((pixels + 1) / 2 - self._mean) / self._std
        found = [self._model(pixel_values=batch).pooler_output for batch in torch.split(values, BATCH)]
        return normalize(torch.cat(found), dim=-1)

    def _cropped(self, image: Image.Image) -> Image.Image:
        square = fit_square(image, self._short_px)
        edge = (self._short_px - self._side_px) // 2
        return square.crop((edge, edge, edge + self._side_px, edge + self._side_px))


def _load(folder: Path) -> Any:
    """The encoder by transformers itself, which knows the published names of its tensors."""
    try:
        model, loaded = Dinov2Model.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation="sdpa",
            use_safetensors=True,
            output_loading_info=True,
        )
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise InvalidModelError(f"{folder} cannot be loaded: {str(error).splitlines()[0]}") from error
    missing = sorted(loaded["missing_keys"])
    if missing:
        raise InvalidModelError(f"{folder}: {missing[0]} is missing ({len(missing)} tensors in all)")
    return model.eval()
