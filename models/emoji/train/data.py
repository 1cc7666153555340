"""Composed pictures with their captions and scenes, and the choice of those for a batch."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from models.emoji.compose import training_sample
from models.emoji.errors import CheckpointError
from models.emoji.train.chunks import by_chunks
from models.emoji.world import Scene, shipped_world

VALIDATION_SEED = 10_000_000  # far from every training seed


@dataclass(frozen=True)
class PictureSet:
    """Pictures [n, 64, 64, 3] of bytes, with their captions and scenes."""

    pictures: npt.NDArray[np.uint8]
    captions: list[str]
    scenes: list[Scene]

    def batch(self, indices: Iterable[int], device: torch.device | str = "cpu") -> torch.Tensor:
        """Pictures as [rows, 3, 64, 64] in [-1, 1], on a device."""
        return as_tensor(self.pictures[list(indices)], device)


class StyledChoice:
    """Places of pictures for a batch, of which some have a style more often than chance would have it."""

    def __init__(self, scenes: list[Scene], share: float) -> None:
        """Find the pictures with a style; `share` of a batch (at least as many as the set has) is drawn from them.

        Raises:
            CheckpointError: no picture has one.
        """
        self._count, self._share = len(scenes), share
        self._styled = torch.tensor([index for index, scene in enumerate(scenes) if any(scene.style)])
        if not len(self._styled):
            raise CheckpointError(
                f"none of the {len(scenes)} pictures of the training set has a style: compose more (data.pictures)"
            )

    def __call__(self, rows: int, rng: torch.Generator) -> torch.Tensor:
        """The places, [rows], on the generator's device."""
        device = rng.device
        chosen = torch.randint(0, self._count, (rows,), generator=rng, device=device)
        place = torch.randint(0, len(self._styled), (rows,), generator=rng, device=device)
        styled = self._styled.to(device)[place]
        more = torch.rand(rows, generator=rng, device=device) < self._share
        return torch.where(more, styled, chosen)


def as_tensor(pictures: npt.NDArray[np.uint8], device: torch.device | str = "cpu") -> torch.Tensor:
    """Byte pictures [n, h, w, 3] as [n, 3, h, w] in [-1, 1], on a device."""
    levels = torch.from_numpy(np.ascontiguousarray(pictures)).to(device)
    return levels.permute(0, 3, 1, 2).float() / 127.5 - 1


def compose_chunk(seeds: range) -> tuple[npt.NDArray[np.uint8], list[str], list[Scene]]:
    """The pictures, captions and scenes of some seeds."""
    world = shipped_world()
    samples = [training_sample(seed, world) for seed in seeds]
    pictures = np.stack([np.asarray(sample.picture) for sample in samples])
    return pictures, [sample.caption for sample in samples], [sample.scene for sample in samples]


def compose_set(first_seed: int, count: int, processes: int = 1) -> PictureSet:
    """The pictures of `count` seeds from `first_seed` on, held in memory."""
    parts = by_chunks("data", compose_chunk, range(first_seed, first_seed + count), processes)
    pictures = np.concatenate([part[0] for part in parts])
    return PictureSet(
        pictures, [text for part in parts for text in part[1]], [one for part in parts for one in part[2]]
    )
