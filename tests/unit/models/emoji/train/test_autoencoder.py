"""The latents that the decoder is trained on."""

import pytest
import torch

from models.emoji.settings import read_settings
from models.emoji.train.autoencoder import OneStepPredictions
from models.emoji.train.components import read_components
from models.emoji.train.data import compose_set
from models.emoji.train.device import best_device
from models.emoji.train.networks import SHIPPED, load_networks
from models.emoji.world import shipped_world


@pytest.mark.slow
def test_one_step_predictions_approximate_the_latents() -> None:
    """A prediction keeps most of the latents, depends on the caption, and is reproducible with the same seed."""
    pictures, components = compose_set(50, 16), read_components()
    device = best_device()
    latents, indices = components.encode(pictures.batch(range(16), device)), torch.arange(16, device=device)
    nets = load_networks(read_settings().diffusion, shipped_world(), SHIPPED)
    predict = OneStepPredictions(nets, shipped_world(), pictures.captions)
    first = predict(latents, indices, torch.Generator(device).manual_seed(0))
    error = (first - latents).square().mean() / latents.var()
    assert 1e-4 < error < 0.3
    assert torch.equal(first, predict(latents, indices, torch.Generator(device).manual_seed(0)))
    other = predict(latents, indices.flip(0), torch.Generator(device).manual_seed(0))
    assert (other - latents).square().mean() > (first - latents).square().mean()
