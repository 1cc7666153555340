"""Figures of one case's pictures, and the models that measure them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.quality.cases.prompts import Prompt
from benchmarks.quality.cases.subjects import Case
from models.emoji.judge import ATTRIBUTES, Judge, read_judge
from models.emoji.judge.network import WEIGHTS
from models.emoji.world import World, shipped_world
from zoodip_core.base_models.weight_files import weight_files
from zoodip_core.diffusion.latents import to_tensor
from zoodip_core.diffusion.scoring import Scorer

COLOR, BACKGROUND = ATTRIBUTES.index("color"), ATTRIBUTES.index("background")
OBJECT_COLUMNS = (0, 1, 2)  # object, color, pattern
STYLE_COLUMNS = (4, 5)  # color filter, form filter
RESAMPLES = 2000


class Embedder(Protocol):
    """Maps images and texts to the same unit sphere."""

    def images(self, images: Sequence[Image.Image]) -> Tensor:
        """Return one unit row for each image."""

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Return one unit row for each text."""


@dataclass(frozen=True)
class Instruments:
    """The world, the judge and the CLIP pair that measure pictures."""

    world: World
    judge: Judge
    embedder: Embedder
    id: str  # hash of the weights of judge and CLIP pair


@dataclass(frozen=True)
class Figures:
    """Figures of one case's pictures. A figure is None if no prompt measures it."""

    clip_i: float  # mean cosine of all pairs of a reference and a picture
    clip_t: float  # mean cosine of each picture and its prompt without the token
    intra_prompt_similarity: float | None  # mean cosine of two seeds of a prompt; lower is more diverse
    attribute_accuracy: float | None  # share with the right object, color and pattern (styles: both filters)
    background_accuracy: float | None  # share with the right background
    edit_compliance: float | None  # share that follows another color word or a filter
    recolor_accuracy: float | None  # with another color word: share with right object, color and pattern


def read_instruments(scorer: Path) -> Instruments:
    """Load the judge and the CLIP pair.

    Raises:
        CheckpointError: the judge's weights are missing or damaged.
        InvalidModelError: the CLIP pair's weights are missing or damaged.
    """
    judge, pair = read_judge(), Scorer(scorer)
    digest = hashlib.sha256(WEIGHTS.read_bytes())
    for path in weight_files(scorer):
        digest.update(path.read_bytes())
    return Instruments(shipped_world(), judge, pair, digest.hexdigest())


def measure(
    case: Case,
    prompts: Sequence[Prompt],
    drawn: Sequence[Sequence[Image.Image]],
    embedder: Embedder,
    judge: Judge,
) -> Figures:
    """Return the figures of a case.

    Args:
        case: the case that the pictures should show.
        prompts: the prompts of the case.
        drawn: the pictures of each prompt, one for each seed.
        embedder: the CLIP pair.
        judge: the attribute classifier.
    """
    each = len(drawn[0])
    pictures = [picture for row in drawn for picture in row]
    embedded = embedder.images(pictures)
    texts = embedder.texts([prompt.with_noun("") for prompt in prompts]).repeat_interleave(each, dim=0)
    scenes = [prompt.scene for prompt in prompts for _ in range(each)]
    verdicts = judge.right(torch.stack([to_tensor(picture) for picture in pictures]), scenes)
    verdicts = verdicts.view(len(prompts), each, -1).float()
    return Figures(
        clip_i=clip_i(embedder.images(case.references), embedded),
        clip_t=float((embedded * texts).sum(dim=-1).mean()),
        intra_prompt_similarity=intra_prompt_similarity(embedded.view(len(prompts), each, -1)),
        **accuracies(case, prompts, verdicts),
    )


def accuracies(case: Case, prompts: Sequence[Prompt], verdicts: Tensor) -> dict[str, float | None]:
    """Return the judge's shares: accuracies on plain prompts, compliance and recolor accuracy on edits.

    A style has no background accuracy, because the judge does not recognize backgrounds under a filter.

    Args:
        case: the case that the pictures should show.
        prompts: the prompts of the case.
        verdicts: 1 where an attribute is right [prompts, seeds, attributes].
    """
    plain = [k for k, prompt in enumerate(prompts) if prompt.changed is None]
    edited = [k for k, prompt in enumerate(prompts) if prompt.changed is not None]
    recolored = [k for k in edited if prompts[k].changed == COLOR]
    style = case.kind == "styles"
    compliant = [verdicts[k, :, prompts[k].changed] for k in edited]
    return {
        "attribute_accuracy": _share_correct(verdicts[plain], STYLE_COLUMNS if style else OBJECT_COLUMNS),
        "background_accuracy": None if style else _mean(verdicts[plain][:, :, BACKGROUND]),
        "edit_compliance": _mean(torch.cat(compliant)) if compliant else None,
        "recolor_accuracy": _share_correct(verdicts[recolored], OBJECT_COLUMNS),
    }


def _share_correct(verdicts: Tensor, columns: Sequence[int]) -> float | None:
    """Return the share of pictures with all of these columns right [prompts, seeds, attributes]."""
    return _mean(verdicts[:, :, columns].all(dim=-1).float())


def _mean(values: Tensor) -> float | None:
    return float(values.mean()) if values.numel() else None


def clip_i(references: Tensor, drawn: Tensor) -> float:
    """Return the mean cosine of all pairs of a reference and a picture, given as unit rows.

    Source: arXiv:2503.14868v1, evaluation protocol
    """
    return float((references @ drawn.T).mean())


def intra_prompt_similarity(drawn: Tensor) -> float | None:
    """Return the mean cosine of two different seeds of a prompt, over prompts; None for a single seed.

    Args:
        drawn: unit rows [prompts, seeds, d].
    """
    seeds = drawn.shape[1]
    if seeds < 2:
        return None
    pairs = drawn @ drawn.transpose(1, 2)
    diagonal = pairs.diagonal(dim1=1, dim2=2).sum(dim=1)
    return float(((pairs.sum(dim=(1, 2)) - diagonal) / (seeds * (seeds - 1))).mean())


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % bootstrap interval (percentiles) of the mean over cases. The result is deterministic."""
    sample = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(0, len(sample), (RESAMPLES, len(sample)))
    low, high = np.percentile(sample[picks].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)
