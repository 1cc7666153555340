"""The paper's figures of one subject's pictures, and the two encoders that measure them: CLIP and DINOv2."""

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

from benchmarks.quality.cases.protocols import PromptTemplate
from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.metrics import Embedder, clip_i, intra_prompt_similarity
from benchmarks.quality.sources import Pictures
from zoodip_core.base_models.families import read_config
from zoodip_core.base_models.weight_files import weight_files
from zoodip_core.diffusion.latents import to_tensor
from zoodip_core.diffusion.scoring import Scorer
from zoodip_core.errors import InvalidModelError
from zoodip_core.images import fit_square

BATCH = 25  # pictures at once; a whole case would need gigabytes
PARTS = {
    "clip": ("preprocessor_config.json", "vocab.json", "merges.txt"),
    "dinov2": ("preprocessor_config.json",),
}


class DinoEncoder:
    """A DINOv2 image encoder. The class token is the embedding."""

    def __init__(self, folder: Path) -> None:
        """Load the encoder.

        Args:
            folder: a Dinov2Model in the layout of transformers, with its `preprocessor_config.json`.

        Raises:
            InvalidModelError: the folder is incomplete, or its weights are damaged.
        """
        self._model = _load(folder)
        config = read_config(folder, "preprocessor_config.json")
        self._short_px = int(config["size"]["shortest_edge"])
        self._side_px = int(config["crop_size"]["height"])
        self._mean = torch.tensor(config["image_mean"]).view(3, 1, 1)
        self._std = torch.tensor(config["image_std"]).view(3, 1, 1)

    @torch.no_grad()
    def images(self, images: Sequence[Image.Image]) -> Float[Tensor, "images d"]:
        """Return unit embeddings. Preprocess as DINOv2 does: resize by the short side, then crop the center."""
        pixels = torch.stack([to_tensor(self._cropped(image)) for image in images])
        values = ((pixels + 1) / 2 - self._mean) / self._std
        found = [self._model(pixel_values=batch).pooler_output for batch in torch.split(values, BATCH)]
        return normalize(torch.cat(found), dim=-1)

    def _cropped(self, image: Image.Image) -> Image.Image:
        square = fit_square(image, self._short_px)
        edge = (self._short_px - self._side_px) // 2
        return square.crop((edge, edge, edge + self._side_px, edge + self._side_px))


class ImageEmbedder(Protocol):
    """Maps images to a unit sphere."""

    def images(self, images: Sequence[Image.Image]) -> Tensor:
        """Return one unit row for each image."""


@dataclass(frozen=True)
class Encoders:
    """The two encoders."""

    clip: Embedder
    dino: ImageEmbedder
    id: str  # hash of the weights of both


@dataclass(frozen=True)
class Fidelity:
    """The figures of one subject's pictures.

    Source: arXiv:2503.14868v1, evaluation protocol
    """

    clip_t: float  # mean cosine of each picture and its prompt without the token
    clip_i: float  # mean cosine of all pairs of a reference and a picture
    dino: float  # the same with DINOv2
    intra_prompt_similarity: float | None  # mean cosine of two seeds of a prompt with DINOv2


def read_encoders(clip: Path, dino: Path) -> Encoders:
    """Load both encoders.

    Raises:
        BenchmarkError: a folder is missing, incomplete, or has another kind of model.
        InvalidModelError: weights are damaged or do not match the configuration.
    """
    digest = hashlib.sha256()
    for option, folder, kind in (("clip", clip, "clip"), ("dino", dino, "dinov2")):
        for path in _weights(option, folder, kind):
            digest.update(path.read_bytes())
    return Encoders(Scorer(clip), DinoEncoder(dino), digest.hexdigest())


def measure(
    references: Sequence[Image.Image], prompts: Sequence[PromptTemplate], drawn: Pictures, encoders: Encoders
) -> Fidelity:
    """Return the figures of a subject.

    Args:
        references: photos of the subject.
        prompts: the prompts.
        drawn: the pictures of each prompt, one for each seed.
        encoders: CLIP and DINOv2.
    """
    each = len(drawn[0])
    pictures = [picture for row in drawn for picture in row]
    clip, dino = encoders.clip.images(pictures), encoders.dino.images(pictures)
    texts = encoders.clip.texts([prompt.with_noun("") for prompt in prompts]).repeat_interleave(each, dim=0)
    return Fidelity(
        clip_t=float((clip * texts).sum(dim=-1).mean()),
        clip_i=clip_i(encoders.clip.images(references), clip),
        dino=clip_i(encoders.dino.images(references), dino),
        intra_prompt_similarity=intra_prompt_similarity(dino.view(len(prompts), each, -1)),
    )


def _load(folder: Path) -> Any:
    """Load the encoder with transformers, which maps the published tensor names."""
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


def _weights(option: str, folder: Path, kind: str) -> list[Path]:
    """Return the weight files of a folder; validate that it has all parts of this kind of model."""
    if not folder.is_dir():
        raise BenchmarkError.mismatch(f"--{option}", got=folder, expected="an existing folder")
    try:
        model_type = read_config(folder, "config.json").get("model_type")
        if model_type != kind:
            got = f"{folder} with a model of type {model_type!r}"
            raise BenchmarkError.mismatch(f"--{option}", got=got, expected=repr(kind))
        missing = [name for name in PARTS[kind] if not (folder / name).is_file()]
        if missing:
            expected = f"a folder with {' and '.join(missing)}"
            raise BenchmarkError.mismatch(f"--{option}", got=folder, expected=expected)
        return weight_files(folder)
    except InvalidModelError as error:
        message = error.message.removeprefix("base_model: ")
        raise BenchmarkError(f"--{option}: {message}", field=option) from error
