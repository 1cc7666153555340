"""Principal components of 8 × 8 patches: the latent space, fitted, not trained."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from models.emoji.train.checkpoint import read_weights, write_weights

PATCH_PX = 8
COMPONENTS = 16
SHIPPED = Path(__file__).parent / "components.safetensors"


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
        """Pictures [n, 3, h, w] in [-1, 1] as latents [n, 16, h/8, w/8] of about unit variance."""
        rows = (patches(pictures) - self.mean) @ self.axes.T / self.scale
        height, width = (side // PATCH_PX for side in pictures.shape[-2:])
        return rows.transpose(1, 2).reshape(len(pictures), -1, height, width)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """What the components alone keep of the pictures (with seams)."""
        rows = (latents.flatten(2).transpose(1, 2) * self.scale) @ self.axes + self.mean
        side = (latents.shape[-2] * PATCH_PX, latents.shape[-1] * PATCH_PX)
        return functional.fold(rows.transpose(1, 2), side, PATCH_PX, stride=PATCH_PX).clamp(-1, 1)

    def write(self, path: Path) -> None:
        """The map, on disk."""
        write_weights(path, {"mean": self.mean, "axes": self.axes, "scale": self.scale}, torch.float32)


def read_components(path: Path = SHIPPED) -> Components:
    """The map of a file; by default the one that the shipped model's latents are made with."""
    return Components(**read_weights(path))


def fit_components(pictures: torch.Tensor, count: int = COMPONENTS) -> Components:
    """The leading principal components, component k scaled by std_k^½ and all of them to unit variance.

    The square root keeps part of the ordering: strong components stand out of the noise for longer, as in pictures.
    """
    rows = patches(pictures).reshape(-1, 3 * PATCH_PX**2)
    mean = rows.mean(0)
    variances, axes = torch.linalg.eigh(torch.cov((rows - mean).T))
    variances, axes = variances.flip(0)[:count], axes.flip(1)[:, :count].T.contiguous()
    scale = variances.sqrt().sqrt()
    latent_std = ((rows - mean) @ axes.T / scale).std()
    return Components(mean, axes, scale * latent_std)
