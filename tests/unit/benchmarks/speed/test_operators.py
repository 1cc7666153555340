"""The counts of operators include those of all groups of rows."""

from __future__ import annotations

import pytest
import torch

from benchmarks.speed.operators import count_flops, count_kernels, profile_step
from zoodip_core.diffusion.row_groups import FIXED_WORK, row_groups, run_groups

PRODUCTS = 2
FLOPS = 2 * 2 * 3 * 4  # of one product


pytestmark = pytest.mark.usefixtures("two_threads")


def _product() -> None:
    torch.mm(torch.ones(2, 3), torch.ones(3, 4))


def _step() -> None:
    """Compute two products, in groups if there are any."""
    groups = row_groups([2 * FIXED_WORK] * PRODUCTS)
    if len(groups) == 1:
        for _ in range(PRODUCTS):
            _product()
    else:
        run_groups([_product] * PRODUCTS)


def test_kernels_of_all_threads_are_counted() -> None:
    """Two groups have twice the kernels of one product."""
    one = count_kernels(profile_step(_product, "cpu"), "cpu")
    assert len(row_groups([2 * FIXED_WORK] * PRODUCTS)) == PRODUCTS
    assert count_kernels(profile_step(_step, "cpu"), "cpu") == PRODUCTS * one > 0


def test_operations_of_a_step_with_groups_are_counted() -> None:
    """The step runs without groups meanwhile, and has all threads afterwards."""
    assert count_flops(_step) == PRODUCTS * FLOPS
    assert torch.get_num_threads() == 2
