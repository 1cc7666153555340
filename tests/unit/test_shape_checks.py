"""The tests load every tensor module with runtime checks of its shape annotations."""

from __future__ import annotations

import importlib

import pytest
import torch
from jaxtyping import TypeCheckError

from tests.tooling.tensor_modules import tensor_modules
from zoodip_core.diffusion.denoising import row_losses


@pytest.mark.parametrize("name", tensor_modules())
def test_the_hook_covers_the_module(name: str) -> None:
    """The module was loaded by jaxtyping's loader, which adds the checks."""
    loader = importlib.import_module(name).__spec__.loader
    assert type(loader).__module__.startswith("jaxtyping")


def test_a_wrong_shape_is_refused() -> None:
    """A tensor of the wrong rank raises TypeCheckError, so the checks are active."""
    with pytest.raises(TypeCheckError):
        row_losses(torch.zeros(2, 4, 8), torch.zeros(2, 4, 8))
