"""Groups of rows that a CPU evaluates at the same time, each on one thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from math import isqrt
from typing import TypeVar

import torch

from zoodip_core.diffusion.threads import SMALL_WORK

T = TypeVar("T")

FIXED_WORK = 1_200_000_000
"""Work that takes as long as the fixed part of a pass: three rows of the embedded model.

Python computes the fixed part, for one group at a time. So a pass of work W in k groups takes at least as long as
k fixed parts, and as W / k. Both are equal at k = √(W / FIXED_WORK). Measured with two groups only.

Groups wait for each other once in a pass, and threads that share an operation wait in each operation. So groups also
pay next to other processes (docs/experiments/second-thread.md).
"""


def row_groups(works: Sequence[int]) -> list[list[int]]:
    """Return groups of requests with about equal work, as indices.

    There is one group if a request is large, because its operations use all threads, and if `OMP_NUM_THREADS` is set.
    A request stays in one piece, so that its rounding alone does not depend on the number of threads.

    Args:
        works: rows × latent cells × parameters of the U-Net, for each request.
    """
    if "OMP_NUM_THREADS" in os.environ or max(works, default=0) >= SMALL_WORK:
        return [[*range(len(works))]]
    count = max(1, min(torch.get_num_threads(), len(works), isqrt(sum(works) // FIXED_WORK)))
    groups = [list[int]() for _ in range(count)]
    sums = [0] * count
    for index in sorted(range(len(works)), key=lambda one: -works[one]):
        least = sums.index(min(sums))
        groups[least].append(index)
        sums[least] += works[index]
    return groups


def run_groups(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """Run tasks at the same time, each with torch on one thread. Return their results in order."""
    futures = [_threads().submit(task) for task in tasks]
    wait(futures)  # also if one fails
    torch.set_num_threads(torch.get_num_threads())  # the groups have also changed the number of new threads
    return [future.result() for future in futures]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), "rows", initializer=lambda: torch.set_num_threads(1))
