r"""Random directions along which an estimator measures the loss.

Each direction is Gaussian, $e_i \sim N(0, I)$. Then $E[e_i e_i^\top] = I$, so estimates are unbiased.

Source: arXiv:2503.14868v1, Eq. (3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from zoodip_core.config import DirectionsName


def gaussian(count: int, d: int, generator: Generator) -> Float[Tensor, "count d"]:
    """Draw independent directions e_i ~ N(0, I)."""
    return torch.randn(count, d, generator=generator)


def orthogonal(count: int, d: int, generator: Generator) -> Float[Tensor, "count d"]:
    """Draw directions e_i ~ N(0, I) that are orthogonal to each other within blocks of at most d rows.

    Gram–Schmidt rotates the Gaussian rows without preferring a direction. Each row keeps its length, which is
    independent of its direction. Estimates therefore stay unbiased.
    """
    blocks = []
    for rows in torch.split(torch.randn(count, d, generator=generator), d):
        basis, triangle = torch.linalg.qr(rows.T)
        signs = triangle.diagonal().sign()  # QR does not fix the signs; in Gram–Schmidt they are positive
        blocks.append((basis * signs).T * rows.norm(dim=1, keepdim=True))
    return torch.cat(blocks).contiguous()


DIRECTIONS: Mapping[DirectionsName, Callable[[int, int, Generator], Tensor]] = {
    "gaussian": gaussian,
    "orthogonal": orthogonal,
}
