"""The paper's figures of one subject's pictures, and the two encoders that measure them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image
from torch import Tensor

from benchmarks.quality.dino import Dino
from benchmarks.quality.drawing import Pictures
from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.metrics import Embedder, alike, clip_i
from benchmarks.quality.phrase import Phrase
from zoodip_core.base_models.families import read_config
from zoodip_core.base_models.weight_files import weight_files
from zoodip_core.diffusion.scoring import Scorer
from zoodip_core.errors import InvalidModelError

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
