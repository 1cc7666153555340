"""Check shape annotations while tests run, and limit torch to one thread: the test models are small."""

from __future__ import annotations

import os

import pytest
import torch
from jaxtyping import install_import_hook

from tests.tooling.tensor_modules import tensor_packages

install_import_hook(tensor_packages(), "beartype.beartype")
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest tests, so that none of them is left when other processes have nothing to do."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
