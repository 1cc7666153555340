"""Principal components of 8 × 8 patches: the latent space, fitted, not trained."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from models.emoji.errors import CheckpointError
from models.emoji.train.checkpoint import read_weights, write_weights
from models.emoji.train.data import PictureSet

PATCH_PX = 8
WIDTH = 3 * PATCH_PX**2  # numbers a patch
COMPONENTS = 16
COMPONENTS_FILE = Path(__file__).parent / "components.safetensors"


def patches(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures [n, 3, 64, 64] as rows of patches [n, 64, 192]."""
    return functional.unfold(pictures, PATCH_PX, stride=PATCH_PX).transpose(1, 2)


@dataclass(frozen=True)
class Components:
    """The linear map between pictures and latents: latent = (patch − mean)·axesᵀ / scale."""

    mean: torch.Tensor  # [192]
    axes: torch.Tensor  # [16, 192], orthonormal
    scale: torch.Tensor  # [16]

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures [n, 3, h, w] in [-1, 1] as latents [n, 16, h/8, w/8] of about unit variance, on their device."""
        mean, axes, scale = (numbers.to(pictures.device) for numbers in (self.mean, self.axes, self.scale))
        rows = (patches(pictures) - mean) @ axes.T / scale
        height, width = (side // PATCH_PX for side in pictures.shape[-2:])
        return rows.transpose(1, 2).reshape(len(pictures), -1, height, width)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """What the components alone keep of the pictures (with seams)."""
        rows = (latents.flatten(2).transpose(1, 2) * self.scale) @ self.axes + self.mean
        side = (latents.shape[-2] * PATCH_PX, latents.shape[-1] * PATCH_PX)
        return functional.fold(rows.transpose(1, 2), side, PATCH_PX, stride=PATCH_PX).clamp(-1, 1)

    @property
    def digest(self) -> str:
        """A hash of the map's numbers: latents of maps with another digest are others."""
        numbers = torch.cat([self.mean, self.axes.flatten(), self.scale])
        return hashlib.sha256(numbers.numpy().tobytes()).hexdigest()[:16]

    def write(self, path: Path) -> None:
        """The map, on disk."""
        write_weights(path, {"mean": self.mean, "axes": self.axes, "scale": self.scale}, torch.float32)


def read_components(path: Path = COMPONENTS_FILE) -> Components:
    """The map of a file; by default the one that the shipped model's latents are made with.

    Raises:
        CheckpointError: the file is missing, truncated, or holds something else.
    """
    weights = read_weights(path)
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    if found != {"mean": (WIDTH,), "axes": (COMPONENTS, WIDTH), "scale": (COMPONENTS,)}:
        raise CheckpointError(f"{path} holds no {COMPONENTS} components of {PATCH_PX} × {PATCH_PX} patches")
    return Components(**weights)


def work_components(work: Path) -> Components:
    """The map that a work folder trains with: its own where one was fitted, else the committed one."""
    own = work / COMPONENTS_FILE.name
    return read_components(own if own.exists() else COMPONENTS_FILE)


def fit_work_components(work: Path, pictures: PictureSet, count: int) -> None:
    """The map of the first `count` pictures, in a work folder; one that is there is kept."""
    path = work / COMPONENTS_FILE.name
    if not path.exists():
        fit_components(pictures.batch(range(min(count, len(pictures.captions))))).write(path)


def fit_components(pictures: torch.Tensor, count: int = COMPONENTS) -> Components:
    """The leading principal components, component k scaled by std_k^½ and all of them to unit variance.

    The square root keeps part of the ordering: strong components stand out of the noise for longer, as in pictures.
    The largest entry of each axis is positive, so that a machine's eigenvectors cannot differ by their signs.
    """
    rows = patches(pictures).reshape(-1, WIDTH)
    mean = rows.mean(0)
    variances, axes = torch.linalg.eigh(torch.cov((rows - mean).T))
    variances, axes = variances.flip(0)[:count], axes.flip(1)[:, :count].T.contiguous()
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    axes = axes * largest.sign()
    scale = variances.sqrt().sqrt()
    latent_std = ((rows - mean) @ axes.T / scale).std()
    return Components(mean, axes, scale * latent_std)
