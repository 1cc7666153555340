r"""Random directions of a gradient estimate.

Each direction is Gaussian, $e_i \sim N(0, I)$, so that $E[e_i e_i^\top] = I$ and estimates are unbiased.

Source: arXiv:2503.14868v1, Eq. (3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from zoodip_core.config import DirectionsName


def gaussian(count: int, d: int, generator: Generator) -> Float[Tensor, "count d"]:
    """Return independent e_i ~ N(0, I)."""
    return torch.randn(count, d, generator=generator)


def orthogonal(count: int, d: int, generator: Generator) -> Float[Tensor, "count d"]:
    """Return e_i ~ N(0, I) that are orthogonal within blocks of at most d rows.

    Gram–Schmidt keeps Gaussian rows isotropic. Each row keeps its length, which is independent of its direction.
    Estimates therefore remain unbiased.
    """
    blocks = []
    for rows in torch.split(torch.randn(count, d, generator=generator), d):
        basis, triangle = torch.linalg.qr(rows.T)
        signs = triangle.diagonal().sign()  # QR does not fix the signs; Gram–Schmidt's are positive
        blocks.append((basis * signs).T * rows.norm(dim=1, keepdim=True))
    return torch.cat(blocks).contiguous()


DIRECTIONS: Mapping[DirectionsName, Callable[[int, int, Generator], Tensor]] = {
    "gaussian": gaussian,
    "orthogonal": orthogonal,
}
