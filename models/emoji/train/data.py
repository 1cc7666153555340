"""Composed pictures with captions and scenes, and the sampling of training batches from them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from models.emoji.compose import training_sample
from models.emoji.errors import CheckpointError
from models.emoji.train.loop import log
from models.emoji.world import Scene, shipped_world

VALIDATION_SEED = 10_000_000  # far from every training seed
CHUNK = 1000
LOG_EVERY_CHUNKS = 10  # one line per 10,000 pictures; small sets log nothing
Composed = TypeVar("Composed")


@dataclass(frozen=True)
class PictureSet:
    """Pictures [n, 64, 64, 3] as bytes, with their captions and scenes."""

    pictures: npt.NDArray[np.uint8]
    captions: list[str]
    scenes: list[Scene]

    def batch(self, indices: Iterable[int], device: torch.device | str = "cpu") -> torch.Tensor:
        """Return pictures as [rows, 3, 64, 64] in [-1, 1] on a device."""
        return as_tensor(self.pictures[list(indices)], device)


class StyledSampler:
    """Samples batch indices and draws a fixed share of them from the pictures with a style."""

    def __init__(self, scenes: list[Scene], share: float) -> None:
        """Find the pictures with a style.

        Args:
            scenes: of the training set.
            share: of a batch, drawn from the styled pictures in addition to those drawn by chance.

        Raises:
            CheckpointError: no picture has a style.
        """
        self._count, self._share = len(scenes), share
        self._styled = torch.tensor([index for index, scene in enumerate(scenes) if any(scene.style)])
        if not len(self._styled):
            raise CheckpointError(
                f"training set: got {len(scenes)} pictures without a style; expected at least one with a style "
                "(increase data.pictures)"
            )

    def __call__(self, rows: int, rng: torch.Generator) -> torch.Tensor:
        """Return indices [rows] on the generator's device."""
        device = rng.device
        chosen = torch.randint(0, self._count, (rows,), generator=rng, device=device)
        place = torch.randint(0, len(self._styled), (rows,), generator=rng, device=device)
        styled = self._styled.to(device)[place]
        more = torch.rand(rows, generator=rng, device=device) < self._share
        return torch.where(more, styled, chosen)


def as_tensor(pictures: npt.NDArray[np.uint8], device: torch.device | str = "cpu") -> torch.Tensor:
    """Convert byte pictures [n, h, w, 3] to [n, 3, h, w] in [-1, 1] on a device."""
    levels = torch.from_numpy(np.ascontiguousarray(pictures)).to(device)
    return levels.permute(0, 3, 1, 2).float() / 127.5 - 1


def compose_chunk(seeds: range) -> tuple[npt.NDArray[np.uint8], list[str], list[Scene]]:
    """Return the pictures, captions and scenes of a range of seeds."""
    world = shipped_world()
    samples = [training_sample(seed, world) for seed in seeds]
    pictures = np.stack([np.asarray(sample.picture) for sample in samples])
    return pictures, [sample.caption for sample in samples], [sample.scene for sample in samples]


def compose_set(first_seed: int, count: int, processes: int = 1) -> PictureSet:
    """Compose the pictures of `count` seeds, starting at `first_seed`, in memory."""
    parts = map_chunks("data", compose_chunk, range(first_seed, first_seed + count), processes)
    pictures = np.concatenate([part[0] for part in parts])
    return PictureSet(
        pictures, [text for part in parts for text in part[1]], [one for part in parts for one in part[2]]
    )


def map_chunks(
    part: str, compose: Callable[[range], Composed], seeds: range, processes: int
) -> list[Composed]:
    """Apply `compose` to chunks of the seeds in parallel and return the results in order.

    Args:
        part: name in the log of the progress.
        compose: builds the pictures of one chunk.
        seeds: of all pictures.
        processes: number of worker processes.
    """
    chunks = [seeds[first : first + CHUNK] for first in range(0, len(seeds), CHUNK)]
    if processes > 1:
        with get_context("fork").Pool(processes) as pool:
            return _collect_logged(part, pool.imap(compose, chunks), len(seeds))
    return _collect_logged(part, map(compose, chunks), len(seeds))


def _collect_logged(part: str, results: Iterable[Composed], total: int) -> list[Composed]:
    """Collect the results and log progress every `LOG_EVERY_CHUNKS` chunks."""
    kept: list[Composed] = []
    for result in results:
        kept.append(result)
        if len(kept) % LOG_EVERY_CHUNKS == 0:
            log(part, f"composed {min(len(kept) * CHUNK, total)} of {total} pictures")
    return kept
