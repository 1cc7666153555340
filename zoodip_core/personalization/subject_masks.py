"""Subject masks: the opacity of each reference image as weights of its loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from zoodip_core.config import ImageFitName, PersonalizationSettings
from zoodip_core.diffusion.latents import Posteriors
from zoodip_core.images.checks import invisible_image
from zoodip_core.images.geometry import center_square


def loss_weights(
    images: Sequence[Image.Image], posteriors: Posteriors, settings: PersonalizationSettings
) -> Float[Tensor, "images 1 h w"] | None:
    """Return the weights of the latents' cells in the loss; None if all cells weigh the same.

    The weight of a cell is the mean opacity of its area, divided by the mean opacity of all areas. So the weights of
    an image have a mean of 1, and a transparent cell does not count.

    Args:
        images: RGB or RGBA images. All cells of an RGB image have weight 1.
        posteriors: the latents of the images.
        settings: `masked_loss` turns the weights on; `image_fit` is how an image becomes a square.

    Raises:
        InvalidImageError: an image is fully transparent in the part that is used.
    """
    if not settings.masked_loss:
        return None
    masks = [_mask(image, settings.image_fit, f"image {number}") for number, image in enumerate(images, 1)]
    if all(mask is None for mask in masks):
        return None
    height, width = posteriors.mean.shape[-2:]
    return torch.stack([_weights(mask, height, width) for mask in masks])


def _mask(image: Image.Image, fit: ImageFitName, name: str) -> Image.Image | None:
    """Return the opacity of the used part of an image; None if it is the same everywhere.

    Raises:
        InvalidImageError: nothing is visible.
    """
    if image.mode != "RGBA":
        return None
    opacity = image.getchannel("A")
    if fit == "crop":
        left, top, side = center_square(*opacity.size)
        opacity = opacity.crop((left, top, left + side, top + side))
    least, most = opacity.getextrema()
    if most == 0:
        raise invisible_image(name)
    return None if least == most else opacity


def _weights(mask: Image.Image | None, height: int, width: int) -> Float[Tensor, "1 h w"]:
    """Return the weights of one image. Levels are not rounded, so that a small subject does not vanish."""
    if mask is None:
        return torch.ones(1, height, width)
    means = np.array(mask.convert("F").resize((width, height), Image.Resampling.BOX), np.float64)
    return torch.from_numpy((means / means.mean()).astype(np.float32))[None]
