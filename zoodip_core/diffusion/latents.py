"""VAE encoding and decoding: the latent posterior of each image is computed once and cached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from zoodip_core.diffusion import vae_strips
from zoodip_core.diffusion.memory import typed_out_of_memory
from zoodip_core.errors import ImageNotFiniteError


@dataclass(frozen=True)
class Posteriors:
    """Mean and standard deviation of q(z | x), in the U-Net's scale and on the CPU.

    Axis 1 is (original, mirrored). The published script runs the VAE in every step. A sample of the stored
    posterior has the same distribution, so the VAE can be released from memory.
    """

    mean: Float[Tensor, "images 2 c h w"]
    std: Float[Tensor, "images 2 c h w"]

    def __len__(self) -> int:
        return len(self.mean)

    def sample(self, image: int, flipped: bool, generator: torch.Generator) -> Float[Tensor, "c h w"]:
        """Sample a latent of one image. `generator` is on the CPU, so every device draws the same values."""
        mean = self.mean[image, int(flipped)]
        return mean + self.std[image, int(flipped)] * torch.randn(mean.shape, generator=generator)


def to_tensor(image: Image.Image) -> Float[Tensor, "3 height width"]:
    """Convert an image to an RGB tensor in [−1, 1]."""
    pixels = torch.from_numpy(np.array(image.convert("RGB"), dtype=np.float32))
    return pixels.permute(2, 0, 1) / 127.5 - 1


def to_image(pixels: Float[Tensor, "3 height width"]) -> Image.Image:
    """Convert a tensor in [−1, 1] to an image, clamped and rounded. The inverse of `to_tensor`."""
    levels = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())


@torch.no_grad()
@typed_out_of_memory("Encoding an image")
def encode_images(vae: Any, images: Sequence[Image.Image]) -> Posteriors:
    """Encode images of the model's size, one at a time to keep peak memory low.

    Raises:
        OutOfMemoryError: one image does not fit.
    """
    pixels = [view for image in images for view in (to_tensor(image), to_tensor(image).flip(-1))]
    moments = [_encode(vae, view) for view in pixels]
    mean = torch.stack([mean for mean, _ in moments])
    std = torch.stack([std for _, std in moments])
    count = len(images)
    return Posteriors(mean.reshape(count, 2, *mean.shape[1:]), std.reshape(count, 2, *std.shape[1:]))


@torch.no_grad()
@typed_out_of_memory("Decoding an image")
def decode_latent(vae: Any, latent: Float[Tensor, "c h w"]) -> Image.Image:
    """Decode one latent in the U-Net's scale. Decoding several at once would only need more memory.

    Raises:
        ImageNotFiniteError: a pixel is NaN or infinite.
        OutOfMemoryError: one image does not fit.
    """
    scaled = (latent / vae.config.scaling_factor).to(next(vae.parameters()))
    return to_image(_finite(vae_strips.decode(vae, scaled[None])[0]))


def _finite(pixels: Float[Tensor, "3 height width"]) -> Float[Tensor, "3 height width"]:
    if not pixels.isfinite().all():
        raise ImageNotFiniteError
    return pixels


def _encode(
    vae: Any, view: Float[Tensor, "3 height width"]
) -> tuple[Float[Tensor, "c h w"], Float[Tensor, "c h w"]]:
    parameter = next(vae.parameters())
    posterior = DiagonalGaussianDistribution(vae_strips.encode(vae, view[None].to(parameter)))
    scale = vae.config.scaling_factor
    return (posterior.mean[0].float().cpu() * scale, posterior.std[0].float().cpu() * scale)
