"""Image sampling: the reference image of a step.

The paper samples an image in each step. The published script shuffles all images and uses each once. Then it shuffles
them again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Generator

from zoodip_core.config import ImageSamplingName


@runtime_checkable
class ImageSampler(Protocol):
    """Interface of a sampler of images."""

    def sample(self, step: int, generator: Generator) -> int:
        """Return the index of an image.

        Args:
            step: Number of completed steps.
            generator: Generator of the search.
        """
        ...


class WithReplacement:
    """Uniform over all images, independent in each step.

    Source: arXiv:2503.14868v1, Alg. 1.
    """

    def __init__(self, images: int, seed: int) -> None:
        self._images = images

    def sample(self, step: int, generator: Generator) -> int:
        """Return an index from the generator."""
        return int(torch.randint(self._images, (1,), generator=generator).item())


class WithoutReplacement:
    """A random order of all images in each round. It depends on seed and step only, so it needs no state."""

    def __init__(self, images: int, seed: int) -> None:
        self._images = images
        self._seed = seed

    def sample(self, step: int, generator: Generator) -> int:
        """Return the index at the position of the step; nothing is drawn from the generator."""
        number, position = divmod(step, self._images)
        digest = hashlib.sha256(f"{self._seed} {number}".encode()).digest()
        round_generator = torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
        return int(torch.randperm(self._images, generator=round_generator)[position])


IMAGE_SAMPLING: Mapping[ImageSamplingName, type[WithReplacement] | type[WithoutReplacement]] = {
    "with_replacement": WithReplacement,
    "without_replacement": WithoutReplacement,
}
