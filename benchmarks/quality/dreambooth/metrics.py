"""The paper's figures of one subject's pictures, and the two encoders that measure them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.functional import normalize
from transformers import Dinov2Model

from benchmarks.quality.cases.protocols import Phrase
from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.metrics import Embedder, alike, clip_i
from benchmarks.quality.sources import Pictures
from zoodip_core.base_models.families import read_config
from zoodip_core.base_models.fingerprint import weight_files
from zoodip_core.diffusion.latents import to_tensor
from zoodip_core.diffusion.scoring import Scorer
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


PARTS = {
    "clip": ("preprocessor_config.json", "vocab.json", "merges.txt"),
    "dinov2": ("preprocessor_config.json",),
}


class ImageEmbedder(Protocol):
    """What puts images on a unit sphere."""

    def images(self, images: Sequence[Image.Image]) -> Tensor:
        """Unit rows of images."""


@dataclass(frozen=True)
class Encoders:
    """What measures."""

    clip: Embedder
    dino: ImageEmbedder
    id: str  # of both's weights: figures of other encoders are other figures


@dataclass(frozen=True)
class Fidelity:
    """What was measured on one subject's pictures.

    Source: arXiv:2503.14868v1, evaluation protocol
    """

    clip_t: float  # mean cosine of each picture and its prompt without the learned word
    clip_i: float  # mean cosine of all reference × drawn pairs
    dino: float  # the same by DINOv2
    alike: float | None  # mean cosine of two seeds of one prompt by DINOv2: the lower, the more diverse


def read_encoders(clip: Path, dino: Path) -> Encoders:
    """Both, with one id for their weights.

    Raises:
        BenchmarkError: a folder is missing, incomplete, or holds another kind of model.
        InvalidModelError: weights are damaged or do not fit the configuration.
    """
    digest = hashlib.sha256()
    for option, folder, kind in (("clip", clip, "clip"), ("dino", dino, "dinov2")):
        for path in _weights(option, folder, kind):
            digest.update(path.read_bytes())
    return Encoders(Scorer(clip), Dino(dino), digest.hexdigest())


def measure(
    references: Sequence[Image.Image], asked: Sequence[Phrase], drawn: Pictures, encoders: Encoders
) -> Fidelity:
    """The figures of a subject.

    Args:
        references: its photos.
        asked: the prompts.
        drawn: the pictures of each prompt, one a seed.
        encoders: CLIP and DINOv2.
    """
    each = len(drawn[0])
    pictures = [picture for row in drawn for picture in row]
    clip, dino = encoders.clip.images(pictures), encoders.dino.images(pictures)
    texts = encoders.clip.texts([prompt.with_noun("") for prompt in asked]).repeat_interleave(each, dim=0)
    return Fidelity(
        clip_t=float((clip * texts).sum(dim=-1).mean()),
        clip_i=clip_i(encoders.clip.images(references), clip),
        dino=clip_i(encoders.dino.images(references), dino),
        alike=alike(dino.view(len(asked), each, -1)),
    )


def _weights(option: str, folder: Path, kind: str) -> list[Path]:
    """The weight files of a folder that holds all parts of that kind of model."""
    if not folder.is_dir():
        raise BenchmarkError(f"--{option} {folder}: there is no such folder", field=option)
    try:
        came = read_config(folder, "config.json").get("model_type")
        if came != kind:
            message = f"--{option} {folder}: it holds a model of type {came!r}; allowed: {kind!r}"
            raise BenchmarkError(message, field=option)
        missing = [name for name in PARTS[kind] if not (folder / name).is_file()]
        if missing:
            raise BenchmarkError(f"--{option} {folder}: {' and '.join(missing)} missing", field=option)
        return weight_files(folder)
    except InvalidModelError as error:
        message = error.message.removeprefix("base model: ")
        raise BenchmarkError(f"--{option}: {message}", field=option) from error
