r"""The directions that an estimate measures the loss along.

Each alone is Gaussian, $e_i \sim N(0, I)$, so that $E[e_i e_i^\top] = I$ and estimates are unbiased.

Source: arXiv:2503.14868v1, Eq. (3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from zoodip_core.config import DirectionsName


def gaussian(count: int, d: int, generator: Generator) -> Float[Tensor, "count d"]:
    """e_i ~ N(0, I), independent."""
    return torch.randn(count, d, generator=generator)


def orthogonal(count: int, d: int, generator: Generator) -> Float[Tensor, "count d"]:
    """Each e_i ~ N(0, I), but orthogonal to the others of its block of at most d rows.

    Gram–Schmidt turns Gaussian rows without a preferred direction, and each keeps its own length, which is
    independent of where it points: estimates stay unbiased.
    """
    blocks = []
    for rows in torch.split(torch.randn(count, d, generator=generator), d):
        basis, triangle = torch.linalg.qr(rows.T)
        signs = triangle.diagonal().sign()  # QR leaves signs open; Gram–Schmidt's are positive
        blocks.append((basis * signs).T * rows.norm(dim=1, keepdim=True))
    return torch.cat(blocks).contiguous()


DIRECTIONS: Mapping[DirectionsName, Callable[[int, int, Generator], Tensor]] = {
    "gaussian": gaussian,
    "orthogonal": orthogonal,
}
