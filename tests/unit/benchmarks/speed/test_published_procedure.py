"""The procedures that the engine is compared with do what their descriptions say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.speed.inversion import TextualInversion
from benchmarks.speed.operators import count_flops, count_kernels, profile_step
from benchmarks.speed.plain_models import PlainModels, published_quantizer
from benchmarks.speed.published import PublishedSearch
from tests.tooling.families import sd21
from tests.tooling.models import meta_model


def _models(family_folder: dict[str, Path], family: str, *, quantized: bool = True) -> PlainModels:
    quantizer = published_quantizer() if quantized else None
    return PlainModels.load(family_folder[family], device="cpu", quantizer=quantizer, dtype=torch.float32)


def _calls(module: nn.Module) -> list[int]:
    """Return a list that gets the number of rows of each call."""
    calls: list[int] = []
    module.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    return calls


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sd2_v", "sdxl"])
def test_the_published_step_encodes_the_image_and_runs_three_single_rows(
    family_folder: dict[str, Path], family: str
) -> None:
    """One VAE pass and n + 1 passes of each text encoder and the U-Net; only the token's rows have changed."""
    models = _models(family_folder, family)
    tables = [text.get_input_embeddings().weight for text in models.texts]
    before = [table.clone() for table in tables]
    passes = [_calls(models.unet), _calls(models.vae.encoder)]

    PublishedSearch(models).step()

    assert passes == [[1, 1, 1], [1]]
    for table, old, token_id in zip(tables, before, models.token_ids, strict=True):
        changed = (table != old).any(dim=1).nonzero().flatten().tolist()
        assert changed == [token_id]


@pytest.mark.slow
def test_a_published_perturbation_is_taken_back(family_folder: dict[str, Path]) -> None:
    """With learning rate 0 the token is the same after a step, up to rounding."""
    search = PublishedSearch(_models(family_folder, "sd1"))
    search._adam.param_groups[0]["lr"] = 0.0
    start = search.models.rows[0].clone()
    search.step()
    torch.testing.assert_close(search.models.rows[0], start, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("quantized", [True, False])
def test_textual_inversion_changes_the_token_only(family_folder: dict[str, Path], quantized: bool) -> None:
    """A step changes the placeholder's row and no other, with and without INT8 and checkpointing."""
    models = _models(family_folder, "sd1", quantized=quantized)
    table = models.texts[0].get_input_embeddings().weight
    before, passes = table.detach().clone(), _calls(models.unet)
    TextualInversion(models, checkpointing=quantized).step()
    assert passes == [1]
    assert (table != before).any(dim=1).nonzero().flatten().tolist() == models.token_ids


def test_kernels_are_operators_that_compute() -> None:
    """A linear layer is one product, a cast is one copy; views, reshapes and allocations are none."""
    layer, given = nn.Linear(8, 8, bias=False), torch.randn(4, 8)

    def step() -> None:
        layer(given).view(2, 16).t().unsqueeze(0).neg().to(torch.float64)
        torch.empty(3)

    with torch.no_grad():
        assert count_kernels(profile_step(step, "cpu"), "cpu") == 3
        assert count_flops(step) == 2 * 4 * 8 * 8


def test_the_shapes_of_sd21_have_their_published_sizes() -> None:
    """Parameter counts agree with the published U-Net and text encoder."""
    family = sd21()
    unet = meta_model("UNet2DConditionModel", family.unet)
    text = meta_model("CLIPTextModel", family.text[0])
    sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in (unet, text)]
    assert sizes == [865_910_724, 340_387_840]
