"""The pictures of a case, drawn from prompts that may hold a learned token."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from benchmarks.quality.learnable import TOKEN
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.config import GenerationSettings
from zoodip_core.diffusion.generation import generate_together
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.diffusion.prompts import ConceptVectors, unflatten

TOGETHER = 24  # pictures in one batch: a large model has no room for a whole case
SEEDS_APART = 1000  # first seeds of two prompts: every method draws prompt k from 1000 k on

Pictures = list[list[Image.Image]]  # of each prompt, one a seed


def draw(
    bundle: Bundle,
    entry: BaseModelEntry,
    texts: Sequence[str],
    each: int,
    concepts: ConceptVectors | None = None,
) -> Pictures:
    """`each` pictures of every text, which may hold the token when `concepts` has its vectors."""
    asked = [
        GenerationSettings.parse(entry.generation | {"prompt": text, "n": each, "seed": index * SEEDS_APART})
        for index, text in enumerate(texts)
    ]
    prompts = max(1, TOGETHER // each)
    parts = (asked[first : first + prompts] for first in range(0, len(asked), prompts))
    drawn = [one for part in parts for one in generate_together(bundle, part, concepts)]
    return [[picture.image for picture in pictures] for pictures in drawn]


def concept(bundle: Bundle, flat: Float[Tensor, " flat"], vectors: int) -> ConceptVectors:
    """A searched point as `generate` takes it."""
    return {TOKEN: [part[0] for part in unflatten(flat[None], vectors, bundle.prompts.widths)]}
