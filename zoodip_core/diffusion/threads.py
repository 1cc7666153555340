"""Number of CPU threads of a forward pass: one for small models, all for large ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL_WORK = 50_000_000_000
"""Below this product of rows, latent cells and U-Net parameters, a pass runs on one thread.

The embedded model stays below it up to 121 rows, and SD1.5 is above it with one row. It is no break-even point: on
idle cores a second thread helps at every size, and next to other processes it costs more than that
(docs/experiments/second-thread.md).
"""


@contextmanager
def threads_for(work: int) -> Iterator[None]:
    """Run the block on one thread if its work is small. Then restore the number of threads.

    On cores that other processes use, a second thread costs time, because each operation waits for both threads.
    `OMP_NUM_THREADS` turns this choice off.

    Args:
        work: rows × latent cells × parameters of the U-Net, about the multiplications of a forward pass.
    """
    before = torch.get_num_threads()
    if before == 1 or work >= SMALL_WORK or "OMP_NUM_THREADS" in os.environ:
        yield
        return
    torch.set_num_threads(1)  # of the calling thread
    try:
        yield
    finally:
        torch.set_num_threads(before)
