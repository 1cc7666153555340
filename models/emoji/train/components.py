"""Principal components of 8 × 8 pixel patches, which define the latent space."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from models.emoji.errors import CheckpointError
from models.emoji.train.checkpoint import read_weights, write_weights
from models.emoji.train.data import PictureSet

PATCH_PX = 8
WIDTH = 3 * PATCH_PX**2  # values per patch
COMPONENTS = 16
COMPONENTS_FILE = Path(__file__).parent / "components.safetensors"


def patches(pictures: torch.Tensor) -> torch.Tensor:
    """Return the patches of pictures [n, 3, 64, 64] as [n, 64, 192]."""
    return functional.unfold(pictures, PATCH_PX, stride=PATCH_PX).transpose(1, 2)


@dataclass(frozen=True)
class Components:
    """The linear map between pictures and latents: latent = (patch − mean)·axesᵀ / scale."""

    mean: torch.Tensor  # [192]
    axes: torch.Tensor  # [16, 192], orthonormal
    scale: torch.Tensor  # [16]

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Encode pictures [n, 3, h, w] in [-1, 1] as latents [n, 16, h/8, w/8] of about unit variance."""
        mean, axes, scale = (numbers.to(pictures.device) for numbers in (self.mean, self.axes, self.scale))
        rows = (patches(pictures) - mean) @ axes.T / scale
        height, width = (side // PATCH_PX for side in pictures.shape[-2:])
        return rows.transpose(1, 2).reshape(len(pictures), -1, height, width)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode latents linearly, patch by patch; the result has visible seams."""
        rows = (latents.flatten(2).transpose(1, 2) * self.scale) @ self.axes + self.mean
        side = (latents.shape[-2] * PATCH_PX, latents.shape[-1] * PATCH_PX)
        return functional.fold(rows.transpose(1, 2), side, PATCH_PX, stride=PATCH_PX).clamp(-1, 1)

    @property
    def digest(self) -> str:
        """Hash of the map. Latents of maps with different digests are incompatible."""
        numbers = torch.cat([self.mean, self.axes.flatten(), self.scale])
        return hashlib.sha256(numbers.numpy().tobytes()).hexdigest()[:16]

    def write(self, path: Path) -> None:
        """Write the map to a file."""
        write_weights(path, {"mean": self.mean, "axes": self.axes, "scale": self.scale}, torch.float32)


def read_components(path: Path = COMPONENTS_FILE) -> Components:
    """Read a map; by default the one of the shipped model.

    Raises:
        CheckpointError: the file is missing, truncated, or not a map of these sizes.
    """
    weights = read_weights(path)
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    if found != {"mean": (WIDTH,), "axes": (COMPONENTS, WIDTH), "scale": (COMPONENTS,)}:
        raise CheckpointError(
            f"{path}: got tensors {found}; expected {COMPONENTS} components of {PATCH_PX} × {PATCH_PX} patches"
        )
    return Components(**weights)


def work_components(work: Path) -> Components:
    """Return the map of a work folder: the one fitted there, or else the committed one."""
    fitted = work / COMPONENTS_FILE.name
    return read_components(fitted if fitted.exists() else COMPONENTS_FILE)


def fit_work_components(work: Path, pictures: PictureSet, count: int) -> None:
    """Fit a map to the first `count` pictures and write it to a work folder, unless the folder has one."""
    path = work / COMPONENTS_FILE.name
    if not path.exists():
        fit_components(pictures.batch(range(min(count, len(pictures.captions))))).write(path)


def fit_components(pictures: torch.Tensor, count: int = COMPONENTS) -> Components:
    """Fit the leading principal components, scaled to unit variance overall.

    Component k is divided by the square root of its standard deviation. Full whitening would give all components the
    same variance; the square root keeps strong components visible under more noise, as in pixel space. The sign of
    each axis makes its largest entry positive, so that the result does not depend on the machine.
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
