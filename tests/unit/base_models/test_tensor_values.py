"""Values of stored tensors are read as torch reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from zoodip_core.base_models.tensor_files import stored_tensors
from zoodip_core.base_models.tensor_values import read_values


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
    ],
)
def test_values_equal_those_of_torch(tmp_path: Path, dtype: torch.dtype) -> None:
    """Every byte occurs, so all numbers with 8 bits are compared, including NaN and infinity."""
    stored = torch.arange(256, dtype=torch.uint8).repeat_interleave(8).view(dtype)
    save_file({"x": stored}, tmp_path / "x.safetensors")
    (tensor,) = stored_tensors(tmp_path / "x.safetensors")
    np.testing.assert_array_equal(read_values(tensor), stored.float().numpy())
