"""Candidates keep their difference in the text encoder, also where all other activations have 16 bits."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.diffusion.loading import load_bundle
from zoodip_core.diffusion.prompts import PromptEncoder, flatten

pytestmark = pytest.mark.slow

MU, DIRECTIONS = 1e-3, 16
TOKEN = "<it>"


@pytest.fixture(params=["sd1", "sdxl"])
def half(
    request: pytest.FixtureRequest, family_folder: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> PromptEncoder:
    """Return INT8 text encoders as CUDA loads them, with a compute dtype of fp16."""
    monkeypatch.setattr("zoodip_core.diffusion.loading.compute_dtype", lambda *_: torch.float16)
    entry = BaseModelEntry(name="x", path=family_folder[request.param])
    return load_bundle(entry, device="cpu").prompts


def _in_fp64(encoder: PromptEncoder) -> PromptEncoder:
    parts = [dataclasses.replace(part, model=copy.deepcopy(part.model).double()) for part in encoder.encoders]
    return PromptEncoder(parts)


@torch.no_grad()
def _slopes(encoder: PromptEncoder, candidates: Float[Tensor, "rows flat"]) -> Float[Tensor, " directions"]:
    """Return the finite differences of a fixed linear function of the states, at the first candidate."""
    prompt = encoder.tokenize(f"a photo of a {TOKEN} in the snow", {TOKEN: 1})
    embedded = encoder.embed_candidates(prompt, TOKEN, candidates, 1)
    states = encoder.encode(embedded, [prompt] * len(candidates)).states.double()
    weights = torch.randn(states.shape[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return ((states[1:] - states[0]) * weights).sum(dim=(1, 2)) / MU


@pytest.mark.parametrize("norm", [0.4, 5.0, 20.0])
def test_directional_derivatives_equal_those_of_fp64(half: PromptEncoder, norm: float) -> None:
    """The error is below 1 % at the norm of a word (0.4) and at norms to which a token drifts (up to 20)."""
    generator = torch.Generator().manual_seed(1)
    theta = flatten([torch.randn(1, width, generator=generator) for width in half.widths])
    theta *= norm / theta.norm()
    directions = torch.randn(DIRECTIONS, len(theta), generator=generator)
    candidates = torch.cat([theta[None], theta + MU * directions])
    exact = _slopes(_in_fp64(half), candidates)
    assert (_slopes(half, candidates) - exact).norm() < 0.01 * exact.norm()


def test_the_vocabulary_has_16_bits(half: PromptEncoder) -> None:
    """The table of all words is the largest part of a text encoder that is not quantized."""
    assert all(encoder.table.dtype == torch.float16 for encoder in half.encoders)
