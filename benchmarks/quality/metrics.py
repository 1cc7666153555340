"""The figures of one case's pictures, and the interval of their mean over cases."""

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
from zoodip_core.base_models.fingerprint import weight_files
from zoodip_core.diffusion.latents import to_tensor
from zoodip_core.diffusion.scoring import Scorer

TINT, GROUND = ATTRIBUTES.index("color"), ATTRIBUTES.index("background")
THING_COLUMNS = (0, 1, 2)  # thing, tint, pattern
STYLE_COLUMNS = (4, 5)  # colour look, form look
RESAMPLES = 2000


class Embedder(Protocol):
    """A pair that puts images and texts on one unit sphere."""

    def images(self, images: Sequence[Image.Image]) -> Tensor:
        """Unit rows of images."""

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit rows of texts."""


@dataclass(frozen=True)
class Figures:
    """What was measured on one case's pictures; None where the prompts at hand do not say."""

    clip_i: float  # mean cosine of all reference × drawn pairs
    clip_t: float  # mean cosine of each picture and its prompt without the learned word
    alike: float | None  # mean cosine of two seeds of one prompt: the lower, the more diverse
    right: float | None  # share with thing, tint and pattern right (for a style: both looks)
    ground: float | None  # share with the asked ground
    change: float | None  # share that obeys another tint word or a look
    retinted: float | None  # under another tint word: share with thing, asked tint and pattern right


def measure(
    case: Case,
    asked: Sequence[Prompt],
    drawn: Sequence[Sequence[Image.Image]],
    embedder: Embedder,
    judge: Judge,
) -> Figures:
    """The figures of a case.

    Args:
        case: what should be shown.
        asked: the prompts.
        drawn: the pictures of each prompt, one a seed.
        embedder: the CLIP pair.
        judge: the classifier.
    """
    each = len(drawn[0])
    pictures = [picture for row in drawn for picture in row]
    embedded = embedder.images(pictures)
    texts = embedder.texts([prompt.with_noun("") for prompt in asked]).repeat_interleave(each, dim=0)
    scenes = [prompt.scene for prompt in asked for _ in range(each)]
    verdicts = judge.right(torch.stack([to_tensor(picture) for picture in pictures]), scenes)
    verdicts = verdicts.view(len(asked), each, -1).float()
    return Figures(
        clip_i=clip_i(embedder.images(case.references), embedded),
        clip_t=float((embedded * texts).sum(dim=-1).mean()),
        alike=alike(embedded.view(len(asked), each, -1)),
        **shares(case, asked, verdicts),
    )


def shares(case: Case, asked: Sequence[Prompt], verdicts: Tensor) -> dict[str, float | None]:
    """The judge's shares: "right" and "ground" where a prompt alters nothing; "change" and "retinted" where it does.

    A look of the whole picture hides its ground, which the judge does not name there, so a style has no such share.

    Args:
        case: what should be shown.
        asked: the prompts.
        verdicts: 1 where an attribute is right [prompts, seeds, attributes].
    """
    plain = [k for k, prompt in enumerate(asked) if prompt.changed is None]
    changed = [k for k, prompt in enumerate(asked) if prompt.changed is not None]
    retinted = [k for k in changed if asked[k].changed == TINT]
    style = case.kind == "styles"
    obeyed = [verdicts[k, :, asked[k].changed] for k in changed]
    return {
        "right": _all_right(verdicts[plain], STYLE_COLUMNS if style else THING_COLUMNS),
        "ground": None if style else _mean(verdicts[plain][:, :, GROUND]),
        "change": _mean(torch.cat(obeyed)) if obeyed else None,
        "retinted": _all_right(verdicts[retinted], THING_COLUMNS),
    }


def _all_right(verdicts: Tensor, columns: Sequence[int]) -> float | None:
    """The share of pictures with all of these attributes right [prompts, seeds, attributes]."""
    return _mean(verdicts[:, :, columns].all(dim=-1).float())


def _mean(values: Tensor) -> float | None:
    return float(values.mean()) if values.numel() else None


def clip_i(references: Tensor, drawn: Tensor) -> float:
    """The mean cosine of all reference × drawn pairs of unit rows.

    Source: arXiv:2503.14868v1, evaluation protocol
    """
    return float((references @ drawn.T).mean())


def alike(drawn: Tensor) -> float | None:
    """The mean cosine of two different seeds of one prompt, over prompts; None for a single seed.

    Args:
        drawn: unit rows [prompts, seeds, d].
    """
    seeds = drawn.shape[1]
    if seeds < 2:
        return None
    pairs = drawn @ drawn.transpose(1, 2)
    own = pairs.diagonal(dim1=1, dim2=2).sum(dim=1)
    return float(((pairs.sum(dim=(1, 2)) - own) / (seeds * (seeds - 1))).mean())


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """The bootstrap interval (95 %, percentiles) of the mean over cases; the same values give the same ends."""
    sample = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(0, len(sample), (RESAMPLES, len(sample)))
    low, high = np.percentile(sample[picks].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


@dataclass(frozen=True)
class Instruments:
    """What measures."""

    world: World
    judge: Judge
    embedder: Embedder
    id: str  # of both's weights: figures of another judge are other figures


def read_instruments(scorer: Path) -> Instruments:
    """The judge and the CLIP pair, with one id for their weights.

    Raises:
        CheckpointError: the judge's weights are missing or damaged.
        InvalidModelError: the pair is.
    """
    judge, pair = read_judge(), Scorer(scorer)
    digest = hashlib.sha256(WEIGHTS.read_bytes())
    for path in weight_files(scorer):
        digest.update(path.read_bytes())
    return Instruments(shipped_world(), judge, pair, digest.hexdigest())
