"""Adds models to catalogs in tests, and checks that a refusal changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from zoodip_core.base_models.model_source import NewModel
from zoodip_core.base_models.registration import add_model
from zoodip_core.diffusion.weight_checks import check_all_weights
from zoodip_core.errors import InvalidInputError, InvalidModelError, ZoodipError

UNET = "model.diffusion_model."
Tensors = dict[str, Tensor]


def add(catalog: Path, name: str, source: object, **options: object) -> None:
    """Add a model as the command does."""
    add_model(catalog, NewModel(name, str(source), **options), check_all_weights)  # type: ignore[arg-type]


def refusal(catalog: Path, name: str, source: object, **options: object) -> str:
    """Return the message of a refused model, after checking that the folder of the catalog is unchanged."""
    before = sorted(catalog.parent.rglob("*"))
    text = catalog.read_bytes() if catalog.exists() else None
    with pytest.raises(ZoodipError) as error:
        add(catalog, name, source, **options)
    assert isinstance(error.value, InvalidInputError | InvalidModelError)
    assert sorted(catalog.parent.rglob("*")) == before
    assert (catalog.read_bytes() if catalog.exists() else None) == text
    return error.value.message


def minimal(**changes: Tensor | None) -> Tensors:
    """Return the tensors that show a checkpoint of SD1, with some replaced, added or (None) left out."""
    tensors: dict[str, Tensor | None] = {
        f"{UNET}input_blocks.0.0.weight": torch.zeros(8, 4, 3, 3),
        f"{UNET}out.2.weight": torch.zeros(4, 8, 3, 3),
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": torch.zeros(2, 2),
        "first_stage_model.encoder.conv_in.weight": torch.zeros(2, 3, 3, 3),
        "first_stage_model.decoder.conv_in.weight": torch.zeros(2, 4, 3, 3),
    }
    return {key: tensor for key, tensor in (tensors | changes).items() if tensor is not None}
