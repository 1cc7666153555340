"""Measures of a decoded photo: sharpness, exposure, and a perceptual hash for near-duplicates.

The thresholds were chosen on the reference images of EmojiBooth and the demo, with synthetic blur and exposure. None
of these images is reported as blurred or badly exposed, and no two of one subject as near-duplicates.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from zoodip_core.images.geometry import fit_square

Exposure = Literal["over", "under"]

_WORKING_SIDE_PX = 128
_TILES = 8  # tiles per side of the square
_MIN_GRADIENT = 4.0  # levels of 255 per px, root mean square; a flatter tile has no edge to judge

_WHITE, _NEAR_WHITE, _DARK = 254, 224, 64  # levels of 255
_MIN_WHITE, _MIN_NEAR_WHITE, _MAX_DARK_REST = 0.4, 0.05, 0.1  # shares of pixels
_MIN_DARK = 0.98  # share of pixels

_HASH_SIDE = 8
_MIN_STEP = 2  # of 255; a smaller difference between two cells is noise
_MIN_STEPS = _HASH_SIDE * _HASH_SIDE // 2


def working_square(image: Image.Image) -> Image.Image:
    """Return the center square of an RGB image with a side of at most 128 px. A smaller image is not enlarged."""
    return fit_square(image, min(_WORKING_SIDE_PX, *image.size))


def sharpness(square: Image.Image) -> float | None:
    """Return the sharpness of the sharpest of 8×8 tiles; None if no tile has contrast.

    The sharpness of a tile is the mean square of its Laplacian, divided by that of its gradient. For an edge that is
    blurred by a Gaussian of σ px this is about 1 / (2 σ²), whatever its contrast. Flat areas add nothing to either,
    so a flat drawing is as sharp as its edges. Because the sharpest tile counts, a blurred background does not
    matter.
    """
    levels: Float[np.ndarray, "side side"] = np.asarray(square.convert("L"), np.float64)
    inner, right, below = levels[1:-1, 1:-1], levels[1:-1, 2:], levels[2:, 1:-1]
    laplacian = _tile_means((4 * inner - right - below - levels[1:-1, :-2] - levels[:-2, 1:-1]) ** 2)
    gradient = _tile_means((right - inner) ** 2 + (below - inner) ** 2)
    judged = gradient >= _MIN_GRADIENT**2
    return float((laplacian[judged] / gradient[judged]).max()) if judged.any() else None


def _tile_means(values: Float[np.ndarray, "side side"]) -> Float[np.ndarray, "8 8"]:
    tile = len(values) // _TILES
    used = values[: _TILES * tile, : _TILES * tile]
    means: Float[np.ndarray, "8 8"] = used.reshape(_TILES, tile, _TILES, tile).mean(axis=(1, 3))
    return means


def exposure(square: Image.Image) -> Exposure | None:
    """Return whether an image is overexposed or underexposed; None if it is neither.

    Underexposed: 98 % of the pixels are dark. Overexposed: 40 % of the pixels are white, 5 % are nearly white, and
    few of the others are dark in any channel. A plain white background has no such transition to white, and a subject
    in front of it has darker pixels.
    """
    levels: Int[np.ndarray, "side side 3"] = np.asarray(square, np.int64)
    if (levels.max(axis=2) <= _DARK).mean() >= _MIN_DARK:
        return "under"
    lowest = levels.min(axis=2)
    rest = lowest[lowest < _WHITE]
    is_white = rest.size <= (1 - _MIN_WHITE) * lowest.size
    fades = (rest >= _NEAR_WHITE).sum() >= _MIN_NEAR_WHITE * lowest.size
    return "over" if is_white and fades and (rest < _DARK).mean() <= _MAX_DARK_REST else None


def difference_hash(image: Image.Image) -> int | None:
    """Return the 64-bit dHash of an image; None for an image without enough detail.

    Bit by bit, it says whether a cell of a 9×8 grid is darker than its right neighbor. Images of few flat areas would
    have the same bits for different subjects, so at least half of the neighbors have to differ.
    """
    cells = image.convert("L").resize((_HASH_SIDE + 1, _HASH_SIDE), Image.Resampling.BOX)
    steps: Int[np.ndarray, "8 8"] = np.diff(np.asarray(cells, np.int64), axis=1)
    if (abs(steps) >= _MIN_STEP).sum() < _MIN_STEPS:
        return None
    return int.from_bytes(np.packbits(steps > 0).tobytes(), "big")
